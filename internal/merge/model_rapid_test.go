package merge

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"opendfs/internal/repl"

	"pgregory.net/rapid"
)

// act is one thing that a user can do in a member's tree as it is.
type act struct {
	what string
	do   func()
}

// acts lists everything that the user of a member can do with a few names.
func (m *member) acts(names []string) []act {
	var live []repl.Record
	for _, uid := range m.uids() {
		if r := m.recs[uid]; r.Present && uid != root {
			live = append(live, r)
		}
	}
	var out []act
	add := func(do func(), format string, args ...any) {
		out = append(out, act{m.name + ": " + fmt.Sprintf(format, args...), do})
	}
	dirs := []repl.UID{root}
	for _, r := range live {
		if r.Type == repl.Directory {
			dirs = append(dirs, r.UID)
		}
	}
	for _, dir := range dirs {
		for _, name := range names {
			if there, taken, _ := m.At(dir, name); taken {
				if there.Name != name { // by another case, its own name
					add(func() { m.rename(there, dir, name) }, "respell %s as %s", short(there.UID), name)
				}
				continue
			}
			add(func() { m.create(dir, name, repl.File, false) }, "create %s/%s", short(dir), name)
			add(func() { m.create(dir, name, repl.File, true) }, "create %s/%s again", short(dir), name)
			if len(names) > 2 {
				add(func() { m.create(dir, name, repl.Symlink, false) }, "link %s/%s", short(dir), name)
			}
			add(func() { m.create(dir, name, repl.Directory, false) }, "mkdir %s/%s", short(dir), name)
			for _, r := range live {
				if r.Type == repl.Directory && m.within(dir, r.UID) {
					continue
				}
				add(func() { m.rename(r, dir, name) }, "rename %s to %s/%s", short(r.UID), short(dir), name)
			}
		}
	}
	for i, r := range live {
		add(func() { m.remove(r) }, "remove %s", short(r.UID))
		add(func() { m.chmod(r) }, "chmod %s", short(r.UID))
		if r.Type != repl.Directory {
			add(func() { m.edit(r) }, "edit %s", short(r.UID))
		}
		for j, o := range live {
			if i != j && r.Type == repl.File && o.Type == repl.File {
				add(func() { m.renameOver(r, o) }, "rename %s over %s", short(r.UID), short(o.UID))
			}
			if i < j && !m.within(r.UID, o.UID) && !m.within(o.UID, r.UID) {
				add(func() { m.swap(r, o) }, "swap %s and %s", short(r.UID), short(o.UID))
			}
		}
	}
	return out
}

// within reports whether dir is top or lies in it.
func (m *member) within(dir, top repl.UID) bool {
	for dir != root {
		if dir == top {
			return true
		}
		dir = m.canonical(m.recs[dir].Parent)
	}
	return top == root
}

// drawAct draws the kind of an act first: else, of all that can be done, most
// are renames.
func drawAct(t *rapid.T, m *member, names []string) act {
	possible := m.acts(names)
	var kinds []string
	byKind := make(map[string][]act)
	for _, a := range possible {
		kind := strings.Fields(a.what)[1]
		if byKind[kind] == nil {
			kinds = append(kinds, kind)
		}
		byKind[kind] = append(byKind[kind], a)
	}
	of := byKind[kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind of act")]]
	return of[rapid.IntRange(0, len(of)-1).Draw(t, "act")]
}

// TestDirectoriesConverge begins with a tree of directories that all members
// know, so that what is moved and merged is full.
func TestDirectoriesConverge(t *testing.T) {
	more(t, 2000, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1}).Draw(t, "step")))
		members := []*member{w.member("A"), w.member("B"), w.member("C")}[:rapid.IntRange(2, 3).Draw(t, "members")]
		a := members[0]
		for _, top := range []string{"a", "b"} {
			w.now += w.step
			a.create(root, top, repl.Directory, false)
			d, _, _ := a.At(root, top)
			for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(0, 3).Draw(t, "wide")] {
				a.create(d.UID, name, rapid.SampledFrom([]repl.Type{repl.File, repl.Directory}).Draw(t, "type"), false)
			}
		}
		how := drawDelivery(t, 0, 1, 2)
		fail := w.ends(t)
		fail(exchange(false, how, members...))
		for range rapid.IntRange(2, 12).Draw(t, "acts") {
			m := rapid.SampledFrom(members).Draw(t, "member")
			chosen := drawAct(t, m, []string{"a", "b", "c"})
			w.logf("%s", chosen.what)
			w.now += w.step
			chosen.do()
			if o := rapid.SampledFrom(members).Draw(t, "partner"); o != m && rapid.IntRange(0, 3).Draw(t, "pull") == 0 {
				fail(m.pull(o.snapshot(), how))
				fail(m.sound())
			}
		}
		fail(exchange(rapid.Bool().Draw(t, "together"), how, members...))
		fail(w.atRest(members...))
	})
}

func TestMembersConverge(t *testing.T) {
	more(t, 2000, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1, 1000}).Draw(t, "step")))
		members := []*member{w.member("A"), w.member("B"), w.member("C")}[:rapid.IntRange(2, 3).Draw(t, "members")]
		names := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "names")]
		fail := w.ends(t)
		deliver := func() delivery { return drawDelivery(t, 0, 1, 2, 5) }
		for range rapid.IntRange(1, 30).Draw(t, "acts") {
			m := rapid.SampledFrom(members).Draw(t, "member")
			if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
				o := rapid.SampledFrom(members).Draw(t, "partner")
				if o != m {
					fail(m.pull(o.snapshot(), deliver()))
					fail(m.sound())
					fail(vectorSound(members...))
				}
				continue
			}
			a := drawAct(t, m, names)
			w.logf("%s", a.what)
			w.now += w.step * repl.Time(rapid.IntRange(-1, 2).Draw(t, "tick"))
			a.do()
			fail(m.sound())
		}
		fail(exchange(rapid.Bool().Draw(t, "together"), deliver(), members...))
		fail(w.atRest(members...))
	})
}

// ends returns what ends a property at an error, with the world's story.
func (w *world) ends(t *rapid.T) func(error) {
	return func(err error) {
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(w.log, "\n"))
		}
	}
}

// drawDelivery draws a way for updates to come, so many at once.
func drawDelivery(t *rapid.T, sizes ...int) delivery {
	return delivery{
		reverse: rapid.Bool().Draw(t, "reverse"), shuffle: rapid.Uint64Range(0, 3).Draw(t, "shuffle"),
		size: rapid.SampledFrom(sizes).Draw(t, "size"),
	}
}

// more checks a property this often, unless -rapid.checks says how often.
func more(t *testing.T, checks int, property func(*rapid.T)) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f == nil || f.Value.String() != f.DefValue {
		rapid.Check(t, property)
		return
	}
	if testing.Short() {
		checks /= 10
	}
	for _, v := range []string{strconv.Itoa(checks), f.DefValue} {
		if err := f.Value.Set(v); err != nil {
			t.Fatal(err)
		}
		if v != f.DefValue {
			rapid.Check(t, property)
		}
	}
}

// TestNewcomerFollows: a member whose own tree is provisional takes in what two
// others make of theirs, meets their conflicts before they have settled them,
// and ends with their tree; all that only it had is kept (rule 13).
func TestNewcomerFollows(t *testing.T) {
	more(t, 1000, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1}).Draw(t, "step")))
		a, b, c := w.member("A"), w.member("B"), w.member("C")
		c.initial = rapid.Bool().Draw(t, "newcomer") // else it only reads
		names := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "names")]
		fail := w.ends(t)
		user := func(m *member) {
			chosen := drawAct(t, m, names)
			w.logf("%s", chosen.what)
			w.now += w.step
			chosen.do()
		}
		if c.initial {
			for range rapid.IntRange(0, 8).Draw(t, "own") {
				user(c)
			}
			c.forgetTombstones()
		}
		c.readOnly = !c.initial
		how := delivery{reverse: rapid.Bool().Draw(t, "reverse"), size: rapid.IntRange(0, 3).Draw(t, "size")}
		for range rapid.IntRange(1, 20).Draw(t, "acts") {
			m := rapid.SampledFrom([]*member{a, a, b, b, c}).Draw(t, "member")
			switch from := rapid.SampledFrom([]*member{a, b}).Draw(t, "from"); {
			case m == c || rapid.IntRange(0, 6).Draw(t, "kind") == 0 && m != from:
				fail(m.pull(from.snapshot(), how))
				fail(m.sound())
				fail(vectorSound(a, b, c))
			default:
				user(m)
			}
		}
		fail(exchange(false, how, a, b))
		fail(c.pull(a.snapshot(), how))
		fail(c.sound())
		if len(c.held) > 0 {
			fail(fmt.Errorf("C still holds %v", c.held))
		}
		if c.initial {
			c.endInitialSync()
			c.vec = a.vec.Clone()
		}
		fail(w.atRest(a, b, c))
	})
}

// forgetTombstones leaves what an initial build finds: live objects.
func (m *member) forgetTombstones() {
	for _, uid := range m.uids() {
		if !m.recs[uid].Present {
			delete(m.recs, uid)
		}
	}
}
