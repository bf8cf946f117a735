package install

import (
	"sync"
	"sync/atomic"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// amended is what came of setting the metadata of one object in place.
type amended struct {
	done  bool
	after volume.Stat
	lacks []string
	err   error
}

// amendChunk is how many items a worker takes at once.
const amendChunk = 64

// amendAhead sets the metadata of all items side by side, if there is nothing else
// to be done: then no item rests on another. What came of it is judged when their
// turns come.
func (b *Batch) amendAhead() {
	if b.Workers < 2 || len(b.Items) < 2*amendChunk {
		return
	}
	for i := range b.Items {
		if c := b.Items[i].Change; !c.Meta || c.Content || c.Group != 0 || c.From != c.To || c.To.IsZero() || c.Object.Type != repl.File {
			return
		}
	}
	at := make([]volume.Dir, len(b.Items))
	for i := range b.Items {
		if d, err := b.dir(b.Items[i].Change.To.Dir); err == nil && b.Outcomes[i].Err == nil {
			at[i] = d // else it is tried again in its turn
		}
	}
	ahead := make([]amended, len(b.Items))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range b.Workers {
		workers.Go(func() {
			for low := int(next.Add(amendChunk)) - amendChunk; low < len(ahead); low = int(next.Add(amendChunk)) - amendChunk {
				for i := low; i < min(low+amendChunk, len(ahead)); i++ {
					if at[i] != nil {
						ahead[i] = b.amend(i, at[i])
					}
				}
			}
		})
	}
	workers.Wait()
	b.ahead = ahead
}

// amend sets the metadata of an item's object, which lies in to, unless that was
// done ahead. Of a file they are set over those on record: what a user has done
// to attributes that the update leaves alone stays, and is captured.
func (b *Batch) amend(i int, to volume.Dir) amended {
	if b.ahead != nil && b.ahead[i].done {
		return b.ahead[i]
	}
	c := b.Items[i].Change
	was := &c.Object
	want := volume.Stat{Type: was.Type, Identity: was.Identity, Print: was.Print}
	a := amended{done: true}
	if was.Type == repl.File && len(was.Meta) > 0 && len(was.Shown) == 0 {
		a.after, a.lacks, a.err = to.Amend(c.To.Name, &want, was.Meta, c.Update.Meta, c.Update.Mtime)
	} else {
		a.after, a.lacks, a.err = to.SetMeta(c.To.Name, &want, c.Update.Meta, c.Update.Mtime)
	}
	return a
}
