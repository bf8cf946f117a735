// Package disk is a simulated volume: a filesystem in memory on which a
// replicated folder lives, a user works beside the member, and the power fails.
//
// It keeps the contract of package volume (volumetest runs on it) and is
// deterministic: the same calls, the same hooks and the same seeds give
// the same tree, handles and times. It belongs to one goroutine.
//
// A Disk is the filesystem; Open gives a member's process its view. Kill ends
// the process: its view and all that it opened answer EIO and do nothing from
// then on, so that deferred clean-up of a killed member has no effect; what it
// had written stays, as after SIGKILL. Crash cuts the power: it returns the
// disk as the next boot finds it.
//
// What is durable. File data and metadata are so after File.Sync or Temp.Sync,
// metadata set by SetMeta and a directory's own after Dir.Sync, everything
// after Volume.Sync and WritePrivate. Each change of directory entries is one
// operation — a rename or an exchange too — and durable once every directory
// in which it puts an entry was synced, for a removal the one it takes it from.
// At a crash each other operation is kept or lost by itself, except that
//   - what came later at the same entry is lost with it,
//   - an operation is lost whose target directory is lost, and
//   - a directory is gone only if all that was in it is.
//
// Unsynced data of a file are old, new, or torn: cut short or followed by
// zeros. If they are not old the mtime is the new one; otherwise it may be
// either. A kernel's writeback is imitated: the oldest half becomes durable
// when more than some thousand operations wait.
//
// Hooks, all optional: Yield runs before each step of the member, Fail refuses
// one, Journal hears what fanotify would report. Users work through User; they
// neither yield nor fail.
package disk

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"

	"opendfs/internal/repl"
	"opendfs/internal/volume"
)

// privateName is the private area's name in the root.
const privateName = ".dfsr"

// writeback is how many operations and how many dirty files may wait.
const writeback = 4096

// The simulated volume's size; Space overrides it.
const (
	defaultTotal = 1 << 40
	defaultFree  = 1 << 39
)

// Disk is a filesystem in memory. Its hooks may be changed at any time.
type Disk struct {
	// Yield runs before each operation of the member, before anything is
	// checked: the user may act in it. If it panics, the member's process is
	// killed there.
	Yield func(op string)
	// Fail refuses an operation of the member on path with its error. An
	// operation that lists is asked a second time as "list rest" when half of
	// its entries are out.
	Fail func(op, path string) error
	// Journal hears every change: the directory's handle, its path (empty for
	// one that has none), the name, and whether data were written and closed.
	Journal func(dirHandle []byte, dirPath, name string, wrote bool)
	// Space says how much is free.
	Space func() (free, total uint64)
	// NameMax is how many bytes a name in the tree may have; 0: nameMax.
	NameMax int
	// NoResolve takes away the right to resolve handles.
	NoResolve bool

	now      func() repl.Time
	rand     *rand.Rand
	root     *inode
	outside  *inode // same filesystem, not below the root
	byHandle map[string]*inode
	free     []uint32 // inode numbers to give again
	next     uint32
	proc     int  // counts processes; views of earlier ones are dead
	off      bool // the power was cut: this disk is history
	gone     bool // the root's path leads elsewhere

	lastNow repl.Time
	ticks   repl.Time // stamps given at lastNow

	pending []op
	dirty   []*inode
	lists   [][]dirent // buffers of listings
}

// New makes an empty disk with its private area, all durable. seed gives the
// handles' generations; now is the clock that times are taken from, and equal
// readings give times one nanosecond apart, as a kernel with multigrain
// timestamps does.
func New(seed uint64, now func() repl.Time) *Disk {
	d := &Disk{now: now, rand: rand.New(rand.NewPCG(seed, 0)), byHandle: map[string]*inode{}, next: 2}
	d.root, d.outside = d.newInode(repl.Directory), d.newInode(repl.Directory)
	area := d.newInode(repl.Directory)
	area.cur.mode = 0o700
	d.enter(op{n: 1, eff: [2]effect{{dir: d.root, name: privateName, after: area}}})
	for _, p := range []volume.Private{volume.Staging, volume.Installing, volume.Conflicts, volume.PreExisting, volume.CarriedArea} {
		sub := d.newInode(repl.Directory)
		sub.cur.mode = 0o700
		d.enter(op{n: 1, eff: [2]effect{{dir: area, name: string(p), after: sub}}})
	}
	d.SyncAll()
	return d
}

// SyncAll makes everything durable.
func (d *Disk) SyncAll() {
	clear(d.pending)
	d.pending = d.pending[:0]
	for _, n := range d.dirty {
		n.flush()
	}
	clear(d.dirty)
	d.dirty = d.dirty[:0]
}

// Kill ends the member's process: what it opened is dead.
func (d *Disk) Kill() { d.proc++ }

// LoseRoot makes the root's path lead elsewhere, as after an unmount, or back.
func (d *Disk) LoseRoot(lost bool) { d.gone = lost }

// begin is the start of every operation of the member.
func (d *Disk) begin(op string, n *inode, name string) error {
	if d.Yield != nil {
		d.yield(op)
	}
	if d.Fail != nil {
		if err := d.Fail(op, join(d.path(n), name)); err != nil {
			return &volume.OpError{Op: op, Name: name, Err: err}
		}
	}
	return nil
}

// yield runs the hook; its panic is the process's death.
func (d *Disk) yield(op string) {
	alive := false
	defer func() {
		if !alive {
			d.Kill()
		}
	}()
	d.Yield(op)
	alive = true
}

// refuse is an error of the member's operation op.
func refuse(op, name string, kind error) error {
	return &volume.OpError{Op: op, Name: name, Kind: kind}
}

// dead is what a killed process gets to hear.
func dead(op, name string) error {
	return &volume.OpError{Op: op, Name: name, Err: syscall.EIO}
}

// stamp is the next time for mtime, ctime and birth.
func (d *Disk) stamp() repl.Time {
	t := d.now()
	if t != d.lastNow {
		d.lastNow, d.ticks = t, 0
		return t
	}
	d.ticks++
	return t + d.ticks
}

// newInode makes an object without a name.
func (d *Disk) newInode(kind repl.Type) *inode {
	var number uint32
	if k := len(d.free); k > 0 {
		number, d.free = d.free[k-1], d.free[:k-1]
	} else {
		number = d.next
		d.next++
	}
	n := &inode{kind: kind, number: number}
	var h [12]byte
	binary.LittleEndian.PutUint32(h[0:], 1) // FILEID_INO32_GEN
	binary.LittleEndian.PutUint32(h[4:], number)
	binary.LittleEndian.PutUint32(h[8:], d.rand.Uint32())
	n.id = repl.Identity{Handle: string(h[:]), Birth: d.stamp()}
	n.cur = meta{mode: 0o600, mtime: n.id.Birth, ctime: n.id.Birth}
	switch kind {
	case repl.Directory:
		n.cur.mode = 0o755
	case repl.Symlink:
		n.cur.mode = 0o777
	}
	n.dur = n.cur
	d.byHandle[n.id.Handle] = n
	return n
}

// touch marks an inode as changed since it was durable.
func (d *Disk) touch(n *inode) {
	n.enc = nil
	if n.dirty {
		return
	}
	n.dirty = true
	if len(d.dirty) >= writeback {
		half := len(d.dirty) / 2
		for _, old := range d.dirty[:half] {
			old.flush()
		}
		d.dirty = append(d.dirty[:0], d.dirty[half:]...)
	}
	d.dirty = append(d.dirty, n)
}

// emit tells the journal about a name.
func (d *Disk) emit(n *inode, name string, wrote bool) {
	if d.Journal != nil {
		d.Journal([]byte(n.id.Handle), d.path(n), name, wrote)
	}
}

// emitAll tells the journal about an object under each of its names.
func (d *Disk) emitAll(n *inode, wrote bool) {
	if d.Journal == nil {
		return
	}
	for _, l := range n.links {
		d.emit(l.dir, l.name, wrote)
	}
}

// path is where an inode lies beneath the root: "." for the root, "../…" for
// what lies outside, empty for what has no name.
func (d *Disk) path(n *inode) string {
	switch {
	case n == d.root:
		return "."
	case n == d.outside:
		return ".."
	case len(n.links) == 0:
		return ""
	}
	parent := d.path(n.links[0].dir)
	if parent == "" {
		return ""
	}
	return join(parent, n.links[0].name)
}

func join(dir, name string) string {
	switch {
	case name == "":
		return dir
	case dir == "." || dir == "":
		return name
	}
	return dir + "/" + name
}
