package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"opendfs/internal/filter"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
)

var folder = repl.FolderID{7}

// ledger is the records of one folder in memory, with what the store asserts.
type ledger struct {
	root   repl.UID
	byUID  map[repl.UID]*repl.Record
	at     map[repl.Place]repl.UID // live records
	next   uint64
	minted int
	heirs  map[repl.UID]repl.UID // of merged directories
	// store is the product's own store, if the story is told on it, too: it says
	// more of what can be stored.
	store *store.Folder
}

func newLedger() *ledger {
	root := repl.RootUID(folder)
	l := &ledger{root: root, byUID: make(map[repl.UID]*repl.Record), at: make(map[repl.Place]repl.UID), next: 8}
	l.byUID[root] = &repl.Record{Update: repl.Update{UID: root, GVSN: version.GVSN(root), Type: repl.Directory, Present: true}}
	return l
}

func (l *ledger) Get(uid repl.UID) (repl.Record, bool, error) {
	r, ok := l.byUID[uid]
	if !ok {
		return repl.Record{}, false, nil
	}
	return *r, true, nil
}

func (l *ledger) At(dir repl.UID, name string) (repl.Record, bool, error) {
	uid, ok := l.at[repl.Place{Dir: dir, Name: name}]
	if !ok {
		return repl.Record{}, false, nil
	}
	return l.Get(uid)
}

func (l *ledger) Named(dir repl.UID, names []string, fn func(int, *repl.Record) error) error {
	recs := make([]*repl.Record, len(names)) // all before the first fn, as a page is
	for i, name := range names {
		rec, ok, err := l.At(dir, name)
		if err != nil {
			return err
		}
		if ok {
			recs[i] = &rec
		}
	}
	for i, rec := range recs {
		if err := fn(i, rec); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) Children(dir repl.UID, after string, fn func(*repl.Record) bool) error {
	var names []string
	for p := range l.at {
		if p.Dir == dir && p.Name > after {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		r := *l.byUID[l.at[repl.Place{Dir: dir, Name: n}]]
		if !fn(&r) {
			return nil
		}
	}
	return nil
}

func (l *ledger) ByHandle(handle string) ([]repl.Record, error) {
	var out []repl.Record
	for _, r := range l.byUID {
		if handle != "" && r.Identity.Handle == handle {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b repl.Record) int { return a.UID.Compare(b.UID) })
	return out, nil
}

func (l *ledger) Path(dir repl.UID) (string, error) {
	if dir == l.root {
		return ".", nil
	}
	r, ok := l.byUID[dir]
	if !ok {
		return "", fmt.Errorf("path of %v: no record", dir)
	}
	parent, err := l.Path(l.heir(r.Parent))
	return path.Join(parent, r.Name), err
}

func (l *ledger) Canonical(uid repl.UID) (repl.UID, error) { return l.heir(uid), nil }

func (l *ledger) heir(uid repl.UID) repl.UID {
	if h, merged := l.heirs[uid]; merged {
		return h
	}
	return uid
}

// merge makes one directory another's heir, as a verdict does.
func (l *ledger) merge(from, heir repl.UID) {
	l.heirs = map[repl.UID]repl.UID{from: heir}
	for p, uid := range l.at {
		if p.Dir == from {
			delete(l.at, p)
			l.at[repl.Place{Dir: heir, Name: p.Name}] = uid
		}
	}
	r := l.byUID[from]
	delete(l.at, repl.Place{Dir: r.Parent, Name: r.Name})
	r.Present, r.Heir, r.Presence, r.Identity, r.Print = false, heir, repl.Absent, repl.Identity{}, repl.Print{}
}

// commit stores one group as the engine does, or says why it is overtaken.
func (l *ledger) commit(group []Draft, now repl.Time) error {
	freed := map[repl.UID]bool{}
	for i := range group {
		if d := &group[i]; d.Kind == KindDelete || d.Kind == KindMove {
			freed[d.Prior.UID] = true
		}
	}
	for i := range group {
		d := &group[i]
		if d.Prior != nil && l.byUID[d.Prior.UID].GVSN != d.Prior.GVSN {
			return fmt.Errorf("%s of %q: its record has moved on", d.Kind, d.Update.Name)
		}
		if d.Kind == KindDelete {
			for p, child := range l.at {
				if p.Dir == d.Prior.UID && !freed[child] {
					return fmt.Errorf("delete of %q: %q in it is alive", d.Prior.Name, p.Name)
				}
			}
			continue
		}
		if p := l.byUID[l.heir(d.Update.Parent)]; d.Update.UID != l.root && (p == nil || !p.Present) {
			return fmt.Errorf("%s of %q: its parent is not alive", d.Kind, d.Update.Name)
		}
		there, taken := l.at[repl.Place{Dir: l.heir(d.Update.Parent), Name: d.Update.Name}]
		if taken && !freed[there] && (d.Prior == nil || d.Prior.UID != there) && (d.Rival == nil || d.Rival.UID != there) {
			return fmt.Errorf("%s of %q: its place is taken", d.Kind, d.Update.Name)
		}
	}
	parents := map[repl.UID]repl.UID{}
	for i := range group {
		if d := &group[i]; d.Kind == KindMove {
			parents[d.Prior.UID] = d.Update.Parent
		}
	}
	for uid := range parents {
		at := uid
		for range 1000 {
			if next, moves := parents[at]; moves {
				at = next
			} else {
				at = l.byUID[at].Parent
			}
			if at == uid {
				return fmt.Errorf("move of %v puts it below itself", uid)
			}
			if at.IsZero() || at == l.root {
				break
			}
		}
	}
	for i := range group {
		if d := &group[i]; d.Prior != nil && d.Prior.Present {
			delete(l.at, repl.Place{Dir: l.heir(d.Prior.Parent), Name: d.Prior.Name})
		}
	}
	var b store.Batch
	for i := range group {
		b.Writes = append(b.Writes, l.put(&group[i], now))
	}
	if l.store != nil {
		b.NoSync = true
		return l.store.Put(&b)
	}
	return nil
}

// put writes the record of one draft and returns it for the store.
func (l *ledger) put(d *Draft, now repl.Time) store.Write {
	u := d.Update
	if d.Kind != KindAdopt {
		var prior *repl.Update
		if d.Prior != nil {
			prior = &d.Prior.Update
		}
		l.next++
		l.minted++
		g := version.GVSN{Originator: version.Originator{1}, Version: l.next}
		if l.store != nil {
			g = l.store.Next()
		}
		u = repl.Mint(g, now, prior, d.Update)
	} else if d.Prior == nil || !sameUpdate(&d.Update, &d.Prior.Update) {
		panic("adopt of " + d.Update.Name + " changes the update")
	}
	if err := u.Check(); err != nil && u.UID != l.root {
		panic(err)
	}
	rec := repl.Record{Update: u, Presence: d.Presence, Identity: d.Identity, Print: d.Print}
	l.byUID[u.UID] = &rec
	if u.Present && u.UID != l.root {
		l.at[repl.Place{Dir: l.heir(u.Parent), Name: u.Name}] = u.UID
	}
	w := store.Write{Record: rec}
	if d.Prior != nil {
		w.Base = d.Prior.GVSN
	}
	return w
}

// onStore has the records kept in the product's store, too, and read from it.
func (w *world) onStore() {
	w.t.Helper()
	st, err := store.Open(store.NewMemory(), rand.NewChaCha8([32]byte{}))
	w.must(err)
	w.book.store, err = st.Folder(folder)
	w.must(err)
	w.deps.Records = w.book.store
}

func sameUpdate(a, b *repl.Update) bool {
	return a.GVSN == b.GVSN && a.Parent == b.Parent && a.Name == b.Name && a.Size == b.Size && a.Mtime == b.Mtime &&
		a.Content == b.Content && string(a.Meta) == string(b.Meta)
}

// world is a tree, its records and the loop that an engine runs.
type world struct {
	t     testing.TB
	root  string
	plain *volume.Disk // below what deps has around it
	deps  Deps
	book  *ledger
	atEnd bool          // store the drafts of a look when it is over, not one by one
	ahead time.Duration // how far the clock has been set forward
	lines []string      // what was drafted, adopts left out
	last  Result        // of the last look
	seen  []Result
	label string
	trace bool
	reads int // bytes read from files
	// waits: names to be looked at again when their time comes
	waits []Work
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, t.TempDir())
}

// inMemory returns a directory on tmpfs where there is one: random trees by the
// hundred are no story about a disk.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "capture")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newWorldAt(t testing.TB, root string) *world {
	t.Helper()
	vol, err := volume.Open(root, volume.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vol.Close(); err != nil {
			t.Error(err)
		}
	})
	set, err := filter.New(filter.Rules{Files: []string{"~*", "*.bak", "*.tmp"}, Directories: []string{"cache"}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: root, plain: vol, book: newLedger()}
	w.deps = Deps{
		Volume: countingVolume{vol, &w.reads}, Records: w.book, Filter: set, Root: w.book.root, Rest: time.Minute,
		Now: func() repl.Time { return repl.Time(time.Now().Add(w.ahead).UnixNano()) },
	}
	return w
}

// countingVolume counts what is read from files, and can be told to fail.
type countingVolume struct {
	volume.Volume
	reads *int
}

func (v countingVolume) Root() (volume.Dir, error) { return v.wrap(v.Volume.Root()) }
func (v countingVolume) OpenDir(p string) (volume.Dir, error) {
	return v.wrap(v.Volume.OpenDir(p))
}
func (v countingVolume) wrap(d volume.Dir, err error) (volume.Dir, error) {
	if err != nil {
		return nil, err
	}
	return countingDir{d, v.reads}, nil
}

type countingDir struct {
	volume.Dir
	reads *int
}

func (d countingDir) OpenFile(name string) (volume.File, error) {
	f, err := d.Dir.OpenFile(name)
	if err != nil {
		return nil, err
	}
	return countingFile{f, d.reads}, nil
}

type countingFile struct {
	volume.File
	reads *int
}

func (f countingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	*f.reads += n
	return n, err
}

// dirUID finds the record of a directory by its path.
func (w *world) dirUID(dir string) (repl.UID, bool) {
	uid := w.book.root
	if dir == "." {
		return uid, true
	}
	for name := range strings.SplitSeq(dir, "/") {
		rec, ok, err := w.book.At(uid, name)
		if err != nil || !ok {
			return uid, false
		}
		uid = rec.UID
	}
	return uid, true
}

func (w *world) rec(p string) (repl.Record, bool) {
	dir, ok := w.dirUID(path.Dir(p))
	if !ok {
		return repl.Record{}, false
	}
	rec, ok, err := w.book.At(dir, path.Base(p))
	if err != nil {
		w.t.Fatal(err)
	}
	return rec, ok
}

// mark turns paths into work, as an engine does with what a journal reports: a
// trailing "!" says that content was written.
func (w *world) mark(paths ...string) []Work {
	var works []Work
	for _, p := range paths {
		wrote := strings.HasSuffix(p, "!")
		p = strings.TrimSuffix(p, "!")
		dir, name := path.Dir(p), path.Base(p)
		uid, ok := w.dirUID(dir)
		for !ok {
			dir, name = path.Dir(dir), path.Base(dir)
			uid, ok = w.dirUID(dir)
		}
		works = append(works, Work{Dir: uid, Names: []Name{{name, wrote}}})
	}
	return works
}

// names gives the names of one directory as one work.
func (w *world) names(dir string, names ...string) Work {
	uid, ok := w.dirUID(dir)
	if !ok {
		w.t.Fatalf("no record of %s", dir)
	}
	work := Work{Dir: uid}
	for _, n := range names {
		work.Names = append(work.Names, Name{strings.TrimSuffix(n, "!"), strings.HasSuffix(n, "!")})
	}
	return work
}

func (w *world) walk() []Work { return []Work{{Dir: w.book.root, All: true}} }

func (w *world) path(uid repl.UID) string {
	p, err := w.book.Path(w.book.heir(uid))
	if err != nil {
		return "?"
	}
	return p
}

func (w *world) line(d *Draft) string {
	to := path.Join(w.path(d.Update.Parent), d.Update.Name)
	text := fmt.Sprintf("%s %s", d.Kind, to)
	if d.Kind == KindMove {
		text = fmt.Sprintf("move %s -> %s", path.Join(w.path(d.Prior.Parent), d.Prior.Name), to)
		if d.Data {
			text += " edited"
		}
	}
	if d.MtimeOnly {
		text += " mtime"
	}
	return text
}

// ignorable reports whether a draft is left out of a story: what this member
// knows of its disk, and a directory's mtime.
func ignorable(d *Draft) bool {
	return d.Kind == KindAdopt || d.Update.Type == repl.Directory && d.MtimeOnly
}

// look runs one work and stores its drafts.
func (w *world) look(work Work) Result {
	w.t.Helper()
	return w.run(work, func(emit func(Draft) error) (Result, error) {
		return Look(context.Background(), &w.deps, &work, emit)
	})
}

var errOvertaken = errors.New("overtaken")

// run collects drafts into groups and stores them, at once or when it is over.
func (w *world) run(what any, call func(emit func(Draft) error) (Result, error)) Result {
	w.t.Helper()
	var groups [][]Draft
	flush := func() {
		for _, g := range groups {
			if err := w.book.commit(g, w.deps.Now()); err != nil {
				var broken *store.InvariantError
				if errors.As(err, &broken) {
					w.t.Fatalf("%s: %v", w.label, err)
				}
				w.t.Logf("overtaken: %v", err)
				for i := range g {
					w.waits = append(w.waits, Work{Dir: g[i].Update.Parent, Names: []Name{{Name: g[i].Update.Name, Wrote: true}}})
				}
			}
		}
		groups = nil
	}
	res, err := call(func(d Draft) error {
		if !ignorable(&d) {
			w.lines = append(w.lines, w.line(&d))
		}
		if n := len(groups); d.Group != 0 && n > 0 && groups[n-1][0].Group == d.Group {
			groups[n-1] = append(groups[n-1], d)
			return nil
		}
		if !w.atEnd {
			flush()
		}
		groups = append(groups, []Draft{d})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	flush()
	w.last = res
	if w.trace {
		w.t.Logf("%v\n  all drafts so far: %q\n  result %+v", what, w.lines, res)
	}
	w.seen = append(w.seen, res)
	return res
}

// settle does the work and all that comes of it: the engine's loop. Names that
// must rest longer than a second are left in waits.
func (w *world) settle(works ...Work) []string {
	w.t.Helper()
	w.lines = nil
	var gone []repl.UID
	tries := map[string]int{}
	for round := 0; len(works) > 0 || len(gone) > 0 || len(w.waits) > 0; round++ {
		if round > 2000 {
			w.t.Fatalf("%s: no end: %d works, %d gone, last result %+v", w.label, len(works), len(gone), w.last)
		}
		var res Result
		switch {
		case len(works) > 0:
			work := works[0]
			works = works[1:]
			res = w.look(work)
			if res.Missing && work.Dir != w.book.root {
				if r, ok, _ := w.book.Get(work.Dir); ok {
					works = append(works, Work{Dir: r.Parent, Names: []Name{{Name: r.Name}}})
					if key := fmt.Sprint(work); r.Present && tries[key] < 5 {
						tries[key]++
						w.waits = append(w.waits, work)
					}
				}
			}
			for _, name := range res.Descend {
				if r, ok, _ := w.book.At(work.Dir, name); ok && r.Type == repl.Directory {
					works = append(works, Work{Dir: r.UID, All: true})
				}
			}
			for _, a := range res.Again {
				if a.After < time.Second {
					w.waits = append(w.waits, Work{Dir: work.Dir, Names: []Name{{a.Name, a.Wrote}}})
				}
			}
		case len(gone) > 0:
			uids := gone
			gone = nil
			res = w.run(uids, func(emit func(Draft) error) (Result, error) {
				return Gone(context.Background(), &w.deps, uids, emit)
			})
		default:
			works, w.waits = w.waits, nil
			continue
		}
		gone = append(gone, res.Gone...)
		for _, d := range res.Dirty {
			works = append(works, Work{Dir: d.Dir, Names: []Name{{d.Name, d.Wrote}}})
		}
	}
	return w.lines
}

// tree describes the disk: what replicates of it.
func (w *world) tree() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(w.root, func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.root, p)
		if err != nil {
			return err
		}
		if rel == ".dfsr" || e.IsDir() && rel != "." && w.deps.Filter.Match(e.Name(), true) {
			return filepath.SkipDir
		}
		if rel == "." || !e.IsDir() && w.deps.Filter.Match(e.Name(), false) {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			out[rel] = fmt.Sprintf("directory %o", info.Mode().Perm())
		case e.Type() == os.ModeSymlink:
			to, err := os.Readlink(p)
			out[rel] = "link " + to
			return err
		case e.Type() == 0:
			data, err := os.ReadFile(p)
			out[rel] = fmt.Sprintf("file %s %d %o %d", hashOf(data), len(data), info.Mode().Perm(), info.ModTime().UnixNano())
			return err
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// recorded describes the live records the same way.
func (w *world) recorded() map[string]string {
	out := map[string]string{}
	for _, uid := range w.book.at {
		r := w.book.byUID[uid]
		p := path.Join(w.path(r.Parent), r.Name)
		meta, err := volume.DecodeMeta(r.Meta)
		if err != nil {
			w.t.Fatalf("metadata of %s: %v", p, err)
		}
		switch r.Type {
		case repl.Directory:
			out[p] = fmt.Sprintf("directory %o", meta.Mode&0o777)
		case repl.Symlink:
			out[p] = "link " + r.Target
		default:
			out[p] = fmt.Sprintf("file %s %d %o %d", r.Content, r.Size, meta.Mode&0o777, r.Mtime)
		}
	}
	return out
}

// agree compares disk and records, and asks for a walk that finds nothing.
func (w *world) agree() {
	w.t.Helper()
	disk, book := w.tree(), w.recorded()
	for p, want := range disk {
		if book[p] != want {
			w.t.Errorf("%s is %s on disk, %s on record", p, want, book[p])
		}
	}
	for p, is := range book {
		if _, ok := disk[p]; !ok {
			w.t.Errorf("%s is not on disk, but on record: %s", p, is)
		}
	}
	for uid, r := range w.book.byUID {
		if r.Present && r.Presence != repl.OnDisk || !r.Present && r.Presence != repl.Absent {
			w.t.Errorf("record %v %q alive %v is %v", uid, r.Name, r.Present, r.Presence)
		}
	}
	read := w.reads
	if again := w.settle(w.walk()...); len(again) > 0 {
		w.t.Errorf("a walk at rest drafts %q", again)
	}
	if w.reads != read {
		w.t.Errorf("a walk at rest reads %d bytes", w.reads-read)
	}
}

// What a user does.

func (w *world) abs(p string) string { return filepath.Join(w.root, p) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(p, text string) {
	w.t.Helper()
	w.must(os.WriteFile(w.abs(p), []byte(text), 0o644))
}
func (w *world) mkdir(p string)     { w.t.Helper(); w.must(os.MkdirAll(w.abs(p), 0o755)) }
func (w *world) rename(a, b string) { w.t.Helper(); w.must(os.Rename(w.abs(a), w.abs(b))) }
func (w *world) remove(p string)    { w.t.Helper(); w.must(os.RemoveAll(w.abs(p))) }
func (w *world) link(to, p string)  { w.t.Helper(); w.must(os.Symlink(to, w.abs(p))) }
func (w *world) hard(a, b string)   { w.t.Helper(); w.must(os.Link(w.abs(a), w.abs(b))) }
func (w *world) chmod(p string, m os.FileMode) {
	w.t.Helper()
	w.must(os.Chmod(w.abs(p), m))
}
func (w *world) touch(p string, at time.Time) {
	w.t.Helper()
	w.must(os.Chtimes(w.abs(p), time.Time{}, at))
}
func (w *world) mtime(p string) time.Time {
	w.t.Helper()
	info, err := os.Lstat(w.abs(p))
	w.must(err)
	return info.ModTime()
}
