package engine

import (
	"slices"

	"opendfs/internal/fetch"
	"opendfs/internal/finding"
	"opendfs/internal/install"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

// The bounds of a batch: what is made durable and stored at once.
const (
	batchItems   = 1024
	batchBytes   = 64 << 20
	bigContent   = 16 << 20 // a content that is brought and installed by itself
	maxStaging   = 4
	localSeeds   = 2        // files of this member tried as the source of a content
	minLocalSeed = 16 << 10 // below this, asking the partner costs less than looking
)

// batch is a part of a plan that is staged and installed as one.
type batch struct {
	seq     uint64
	link    *link
	diff    *diff
	changes []*repl.Change
	settles [][]version.GVSN // by change: the received versions that it settles
	staged  []fetch.Staged   // by change; empty where no content is needed
	lacks   map[int]bool     // the changes that are new files whose content nobody has
	state   batchState
	after   uint64 // big batches: the last ordered batch that must be done first
	bulk    bool
	meta    int // changes that set metadata alone
	fresh   int // changes that bring new objects
	// failures is what the folder had counted when the verdict was made.
	failures uint64
}

type batchState uint8

const (
	batchWaits batchState = iota // for its turn to be staged
	batchStages
	batchStaged
)

// launch mints what is ours in the changes, enters them into the flight and
// cuts them into batches. A group stays together; a batch ends after a
// directory moves or is merged, so that what lies below it is installed when its
// new path is on record; a big content goes by itself, beside the others.
func (f *Folder) launch(l *link, d *diff, changes []repl.Change) {
	var cur *batch
	var bytes int64
	f.bindMerges(changes)
	for i := range changes {
		c := &changes[i]
		settles := c.Settles()
		switch {
		case c.Mint:
			f.clothe(&c.Update)
			c.Update, c.Mint = c.Minted(f.next(), f.mint()), false
		case c.Was.Provisional && !c.Drop && !c.Update.Present && c.Update.GVSN == c.Was.GVSN:
			c.Update.GVSN = f.st.Next() // another version of what nobody else ever sees
		}
		f.flight.add(c)
		d.outstanding++
		if alone(c) {
			b := f.newBatch(l, d)
			b.after = b.seq
			b.add(c, settles)
			f.big = append(f.big, b)
			continue
		}
		if cur == nil {
			cur, bytes = f.newBatch(l, d), 0
			cur.changes = make([]*repl.Change, 0, min(len(changes)-i, batchItems))
			f.fifo = append(f.fifo, cur)
		}
		cur.add(c, settles)
		if c.Content {
			bytes += c.Update.Size
		}
		if c.Group != 0 && i+1 < len(changes) && changes[i+1].Group == c.Group {
			continue
		}
		moved := c.Update.Type == repl.Directory && !c.From.IsZero() && c.From != c.To && !(c.To.IsZero() && c.Update.Heir.IsZero()) && c.Verdict != repl.VerdictUndone
		if len(cur.changes) >= batchItems || bytes >= batchBytes || moved {
			cur = nil
		}
	}
}

// bindMerges makes one group of the changes that empty a directory, because it
// is merged into another, and of those that lie there only once it is.
func (f *Folder) bindMerges(changes []repl.Change) {
	first, last, emptied := len(changes), -1, false
	for i := range changes {
		c := &changes[i]
		merged := !c.Update.Heir.IsZero() && !c.From.IsZero() && c.To.IsZero()
		emptied = emptied || merged
		if !merged && !c.To.IsZero() && c.Update.Parent != c.To.Dir {
			now, err := f.st.Canonical(c.Update.Parent)
			if f.storeFailed(err) {
				return
			}
			merged = now != c.To.Dir
		}
		if merged {
			first, last = min(first, i), i
		}
	}
	if !emptied {
		return
	}
	for g := changes[first].Group; g != 0 && first > 0 && changes[first-1].Group == g; {
		first--
	}
	for g := changes[last].Group; g != 0 && last+1 < len(changes) && changes[last+1].Group == g; {
		last++
	}
	for i := first; i <= last; i++ {
		changes[i].Group = len(changes) + 1 // no other group has it
	}
}

// clothe gives a directory that comes back, and of which only the tombstone is
// known, the metadata of the directory above it.
func (f *Folder) clothe(u *repl.Update) {
	if !u.Present || len(u.Meta) > 0 || u.Type != repl.Directory || u.Parent.IsZero() {
		return
	}
	u.Meta, u.Mtime = plainDirectory(), f.now()
	dir, err := f.flight.Canonical(u.Parent)
	if f.storeFailed(err) {
		return
	}
	above, ok, err := f.flight.Get(dir)
	if !f.storeFailed(err) && ok && len(above.Meta) > 0 {
		u.Meta = above.Meta
	}
}

// plainDirectory is the metadata of a directory that inherits none.
func plainDirectory() []byte {
	m := volume.Meta{Mode: 0o755}
	b, err := m.Encode()
	if err != nil {
		panic("engine: encode plain metadata: " + err.Error())
	}
	return b
}

func (f *Folder) newBatch(l *link, d *diff) *batch {
	f.seq++
	return &batch{seq: f.seq, link: l, diff: d, failures: f.failures}
}

func (b *batch) add(c *repl.Change, settles []version.GVSN) {
	switch {
	case metaAlone(c):
		b.meta++
	case fresh(c):
		b.fresh++
	}
	b.changes = append(b.changes, c)
	b.settles = append(b.settles, settles)
}

// alone reports whether a change is installed beside the others, when its
// content is here.
func alone(c *repl.Change) bool {
	return c.Content && c.Group == 0 && c.Update.Size >= bigContent && (c.From.IsZero() || c.From == c.To)
}

// startStaging starts to bring the contents of waiting batches.
func (f *Folder) startStaging() {
	for _, lane := range [][]*batch{f.fifo, f.big} {
		started := 0
		for _, b := range lane {
			if b.state == batchStages {
				started++
			}
			if b.state != batchWaits || started >= maxStaging/2 {
				continue
			}
			if !needsContent(b.changes) {
				b.state = batchStaged
				b.staged = make([]fetch.Staged, len(b.changes))
				continue
			}
			b.state = batchStages
			started++
			f.do(&Stage{batch: b, cfg: f.cfg, transfer: b.link.transfer})
		}
	}
}

func needsContent(changes []*repl.Change) bool {
	for i := range changes {
		if changes[i].Content && changes[i].Update.Type == repl.File {
			return true
		}
	}
	return false
}

// staged tells that the contents of a batch are here, or why not.
type staged struct {
	batch  *batch
	staged []fetch.Staged
	err    error
}

func (e staged) apply(f *Folder) {
	e.batch.staged, e.batch.state = e.staged, batchStaged
	e.batch.lacks = make(map[int]bool)
	for i := range e.staged {
		f.denied(e.batch, i)
		if e.batch.unhad(i) && f.nobodyHas(e.batch.changes[i].Update.GVSN) {
			e.batch.lacks[i], e.staged[i].Err = true, nil
		}
		if d := &e.staged[i].Delta; d.Broken != nil {
			f.find.Raise(finding.HashMismatch, f.object(e.batch.changes[i]), d.Broken.Error())
		}
	}
}

// startInstall installs the next batch that is ready: the ordered ones in
// order, a big one when those decided before it are done.
func (f *Folder) startInstall() {
	if f.install != nil {
		return
	}
	var next *batch
	if len(f.fifo) > 0 && f.fifo[0].state == batchStaged {
		next = f.fifo[0]
		f.fifo = f.fifo[1:]
		f.gather(next)
	} else {
		for i, b := range f.big {
			if b.state == batchStaged && (len(f.fifo) == 0 || f.fifo[0].seq > b.after) {
				next = b
				f.big = append(f.big[:i:i], f.big[i+1:]...)
				break
			}
		}
	}
	if next != nil {
		f.install = next
		f.recheck(next)
		next.bulk = len(next.changes) >= bulkItems
		f.do(&Install{batch: next, cfg: f.cfg})
	}
}

// gather joins to a batch those that follow it, are staged by now and can be made
// durable with it: all set metadata alone, each object by itself, or all bring new
// objects. Each install waits for the disk two times, whatever it holds; while it does,
// the next ones gather.
func (f *Folder) gather(b *batch) {
	n, total := 0, len(b.changes)
	for n < len(f.fifo) {
		next := f.fifo[n]
		if next.state != batchStaged || b.link != next.link || b.diff != next.diff || total+len(next.changes) > b.most()/2 || !next.goesWith(b) {
			break
		}
		total += len(next.changes)
		n++
	}
	b.changes = slices.Grow(b.changes, total-len(b.changes))
	for _, next := range f.fifo[:n] {
		b.join(next)
	}
	f.fifo = f.fifo[n:]
}

// most is how many changes may be on their way, of what a batch has. Half of them are
// made durable at once, so that the other half is brought and decided on meanwhile.
// Of metadata there may be twice as many: they take no room on the disk, and are set so
// soon that most of the time would go by in waits for it.
func (b *batch) most() int {
	if b.metaAlone() {
		return 2 * maxOutstanding
	}
	return maxOutstanding
}

// full reports whether enough of a diff is on its way.
func (f *Folder) full(d *diff) bool {
	most := 2 * maxOutstanding
	for _, b := range f.fifo {
		most = min(most, b.most())
	}
	if f.install != nil {
		most = min(most, f.install.most())
	}
	if len(f.big) > 0 {
		most = maxOutstanding
	}
	return d.outstanding >= most
}

// goesWith reports whether a batch may be installed with one that was decided before.
func (b *batch) goesWith(first *batch) bool {
	return first.metaAlone() && b.metaAlone() || first.fresh == len(first.changes) && b.fresh == len(b.changes)
}

func (b *batch) metaAlone() bool { return b.meta == len(b.changes) }

// fresh reports whether a change brings an object to a place where nothing is that has
// to do with another change.
func fresh(c *repl.Change) bool {
	return c.From.IsZero() && !c.To.IsZero() && c.Group == 0 && !c.Drop && !c.ViaPrivate && c.Update.Present && c.Update.Heir.IsZero() && c.Was.GVSN.IsZero()
}

// metaAlone reports whether a change sets metadata and nothing else, of an
// object that no other change has to do with.
func metaAlone(c *repl.Change) bool {
	return c.Meta && !c.Content && c.Group == 0 && c.From == c.To && c.Update.Type != repl.Directory
}

func (b *batch) join(next *batch) {
	for i, lacks := range next.lacks {
		if b.lacks == nil {
			b.lacks = make(map[int]bool)
		}
		b.lacks[len(b.changes)+i] = lacks
	}
	b.changes = append(b.changes, next.changes...)
	b.settles = append(b.settles, next.settles...)
	b.staged = append(b.staged, next.staged...)
	b.meta += next.meta
	b.fresh += next.fresh
	b.failures = min(b.failures, next.failures)
}

// bulkItems is the size of a batch from which on the whole volume is synced at
// once instead of each file and directory.
const bulkItems = 256

// items pairs the changes of a batch with their contents.
func (b *batch) items() []install.Item {
	items := make([]install.Item, len(b.changes))
	for i := range b.changes {
		items[i] = install.Item{Change: b.changes[i], Temp: b.staged[i].Temp, TempStat: b.staged[i].Stat, Lacks: b.staged[i].Lacks, Absent: b.lacks[i]}
	}
	return items
}
