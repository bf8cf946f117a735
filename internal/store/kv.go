package store

// View is a readable set of rows in the order of their keys' bytes.
type View interface {
	// Get returns the value of a key. The value never changes; its reader must
	// not change it either.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan returns a cursor over low <= key < high, standing before the first
	// row. What is written after Scan may or may not be seen.
	Scan(low, high []byte) Cursor
	// Close gives the view's resources back; it is not used afterwards.
	Close() error
}

// Cursor walks rows forward. Key and Value hold until the next move. A cursor
// belongs to one goroutine and must be closed.
type Cursor interface {
	// Next moves to the next row and reports whether there is one.
	Next() bool
	// Seek moves to the first row whose key is not less than key, within the
	// scan's bounds, and reports whether there is one.
	Seek(key []byte) bool
	Key() []byte
	Value() []byte
	// Close returns the first error that the cursor met.
	Close() error
}

// KV is the database below the records: the last written rows as a View, and
// atomic batches. Batches become durable in the order in which they were
// applied: a synced batch makes every earlier one durable.
type KV interface {
	View
	// Apply writes all of ops or nothing, in their order. With sync it is
	// durable on return; nil ops with sync make durable what came before.
	Apply(ops *Ops, sync bool) error
	// Snapshot returns a view of the rows as they are now, synced or not.
	Snapshot() (View, error)
	// Checkpoint writes a copy that can be opened by itself to dir, which must
	// not exist. Its files may be hard links to the database's.
	Checkpoint(dir string) error
	// Stats returns what the database costs at the moment.
	Stats() Stats
}

// Stats is what a database costs and does. Sizes are bytes.
type Stats struct {
	Disk            uint64 // all files, the log included
	Log             uint64 // the write-ahead log
	Memory          uint64 // rows that are not in tables yet
	Cache           uint64 // blocks cached
	Tables          int64
	Compactions     int64
	ReadAmplify     int   // tables that a read may have to look at
	Stalls          int64 // times that writers had to wait for the disk
	BackgroundError error // the last error of a flush or compaction, nil after a success
}

// Ops is a batch of writes, in order; a later one wins over an earlier one.
// The zero value is empty and Reset makes it so again, keeping its memory.
type Ops struct {
	buf []byte
	ops []op
}

type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opDeleteRange // key is the low end, value the high end
)

// op is one write: buf[key:value] is the key, buf[value:end] the value.
type op struct {
	kind            opKind
	key, value, end int
}

// Set writes a row. Key and value are copied.
func (o *Ops) Set(key, value []byte) { o.add(opSet, key, value) }

// Delete removes a row, if it is there.
func (o *Ops) Delete(key []byte) { o.add(opDelete, key, nil) }

// DeleteRange removes the rows with low <= key < high.
func (o *Ops) DeleteRange(low, high []byte) { o.add(opDeleteRange, low, high) }

func (o *Ops) add(kind opKind, key, value []byte) {
	start := len(o.buf)
	o.buf = append(append(o.buf, key...), value...)
	o.ops = append(o.ops, op{kind, start, start + len(key), len(o.buf)})
}

// Len returns the number of writes.
func (o *Ops) Len() int { return len(o.ops) }

// Reset empties o.
func (o *Ops) Reset() { o.buf, o.ops = o.buf[:0], o.ops[:0] }

// split returns the key and value of one write, within buf.
func (p op) split(buf []byte) (key, value []byte) {
	return buf[p.key:p.value:p.value], buf[p.value:p.end:p.end]
}
