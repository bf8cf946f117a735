package capture

import "opendfs/internal/store"

// The store is what capture reads in the product.
var _ Records = (*store.Folder)(nil)
