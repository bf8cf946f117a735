package wire

import (
	"fmt"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// ContentItem names the content of one version, from Offset on; or of it the
// Ranges, one after the other; or, with Seeds or Grains, lets the upstream send what
// those lack: Seeds are contents, which it may know, Grains lists what is in one. At most
// one of Offset, Ranges and the two is set. Similar lets it offer its signature, with
// the traits by which the downstream may find a file like it; not with Offset or
// Ranges.
type ContentItem struct {
	UID    repl.UID
	GVSN   version.GVSN
	Offset int64
	Seeds  []repl.Hash // contents that the downstream has, at most MaxSeeds
	Grains []byte      // of one content that the downstream has, rdc.Grains
	Ranges []rdc.Range // in order, not empty, not overlapping

	Similar bool
	// Needs, with Seeds: of a delta only the needs, because a part of what they lack
	// is here.
	Needs bool
}

// Carried is how many bytes follow a head with status ok that answers the item;
// below 0: it cannot be the answer.
func (it *ContentItem) Carried(h *Head) int64 {
	switch {
	case h.Form == FormDelta && len(it.Seeds) == 0, h.Form == FormGraft && len(it.Grains) == 0, h.Form == FormOffer && len(it.Seeds) == 0 && !it.Similar:
		return -1
	case h.Form != FormWhole:
		return h.Carries
	case len(it.Ranges) == 0:
		return h.Size - it.Offset
	}
	var sum int64
	for _, r := range it.Ranges {
		sum += r.Len
	}
	if last := it.Ranges[len(it.Ranges)-1]; last.Off+last.Len > h.Size {
		return -1
	}
	return sum
}

// ContentRequest asks for content, in this order.
type ContentRequest struct {
	Folder repl.FolderID
	Items  []ContentItem
	Credit uint64
	Packed bool // bodies may come packed
	Always bool // and are to, whatever it takes; only with Packed
}

// Form says what the bytes of an item are.
type Form uint8

// The forms.
const (
	FormWhole Form = iota // the content from the offset on, or its ranges
	FormDelta             // rdc.Needs, then the bytes that they lack
	FormOffer             // none: an rdc.Offer, to be asked about by RdcRequest
	FormGraft             // the runs of rdc.Graft, then the bytes that are in no grain
	forms
)

// Head is what the upstream says of one item before its bytes.
type Head struct {
	Status  Status
	Form    Form
	Size    int64      // of the whole content
	Hash    repl.Hash  // of the whole content
	Carries int64      // bytes that follow, of FormDelta and FormGraft
	Needs   int        // bytes of them that are needs or runs, of FormDelta and FormGraft
	Offer   []byte     // of FormOffer
	Traits  rdc.Traits // of FormOffer; zero: not known
}

// check says what about a head cannot be.
func (h *Head) check() error {
	ok := false
	switch h.Form {
	case FormWhole:
		ok = h.Carries == 0 && h.Needs == 0 && len(h.Offer) == 0
	case FormDelta:
		ok = h.Needs > 0 && h.Needs <= MaxNeeds && h.Carries >= int64(h.Needs) && h.Carries-int64(h.Needs) <= h.Size && len(h.Offer) == 0
	case FormGraft:
		ok = h.Needs > 0 && h.Needs <= rdc.MaxGraft && h.Carries >= int64(h.Needs) && h.Carries-int64(h.Needs) <= h.Size && h.Size <= rdc.MaxGraft && len(h.Offer) == 0
	case FormOffer:
		ok = h.Carries == 0 && h.Needs == 0 && len(h.Offer) > 0 && len(h.Offer) <= MaxOffer
	}
	ok = ok && (h.Form == FormOffer || h.Traits == rdc.Traits{})
	if !ok || h.Status >= statuses || h.Size < 0 || h.Size > repl.MaxContent {
		return fmt.Errorf("form %d of %d bytes with status %d, %d needs of %d bytes, offer of %d bytes", h.Form, h.Size, h.Status, h.Needs, h.Carries, len(h.Offer))
	}
	return nil
}

// Part is a piece of one item in a Content frame's body. All of Head but its
// Status is in the item's first part alone.
type Part struct {
	Index int
	Head
	Length int // bytes in the body
	Last   bool
}

// Content says how its frame's body divides. If Raw is not 0 the body is one
// zstd frame, which gives the Raw bytes that divide: more than it has itself.
type Content struct {
	Parts []Part
	Raw   int
}
