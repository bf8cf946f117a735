package directory

import (
	"fmt"
	"slices"
	"strings"
)

// TransferException is a connection with a Transfer of its own. From and To are
// names of servers.
type TransferException struct {
	From, To string
	Transfer Transfer
}

// Transfer says how the downstream of a connection brings contents.
type Transfer struct {
	RDC       bool // what older versions here hold is not brought again
	CrossFile bool // nor what files like it hold; only with RDC
	MinSize   Size // RDC from this size of a file on
	// Compression says whether contents come packed.
	Compression Compression
}

// Compression says whether contents come packed.
type Compression uint8

// The words for compression.
const (
	CompressionAuto Compression = iota // while that is faster
	CompressionOn                      // whatever shrinks
	CompressionOff
)

// compressions are the words, in the order of the values.
var compressions = []string{"auto", "on", "off"}

// String gives the word of the document.
func (c Compression) String() string { return compressions[min(int(c), len(compressions)-1)] }

// ParseCompression reads a word.
func ParseCompression(s string) (Compression, error) {
	if i := slices.Index(compressions, s); i >= 0 {
		return Compression(i), nil
	}
	return 0, fmt.Errorf("compression %q: write auto, on or off", s)
}

// DefaultTransfer is how a connection brings contents of which nothing is said.
func DefaultTransfer() Transfer {
	return Transfer{RDC: true, CrossFile: true, MinSize: DefaultMinSize}
}

// String gives the settings as a person reads them, those that are defaults left
// out.
func (t Transfer) String() string {
	var list []string
	if !t.RDC {
		list = append(list, "rdc off")
	}
	if !t.CrossFile {
		list = append(list, "cross-file off")
	}
	if t.MinSize != DefaultMinSize {
		list = append(list, "rdc from "+t.MinSize.String())
	}
	if t.Compression != CompressionAuto {
		list = append(list, "compression "+t.Compression.String())
	}
	if len(list) == 0 {
		return "default"
	}
	return strings.Join(list, ", ")
}
