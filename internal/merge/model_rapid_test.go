package merge

import (
	"fmt"
	"slices"
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
			if _, taken, _ := m.At(dir, name); taken {
				continue
			}
			add(func() { m.create(dir, name, repl.File, false) }, "create %s/%s", short(dir), name)
			add(func() { m.create(dir, name, repl.File, true) }, "create %s/%s again", short(dir), name)
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
		if r.Type == repl.File {
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

func TestMembersConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(repl.Time(rapid.SampledFrom([]int64{0, 1, 1000}).Draw(t, "step")))
		members := []*member{w.member("A"), w.member("B"), w.member("C")}[:rapid.IntRange(2, 3).Draw(t, "members")]
		names := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "names")]
		fail := func(err error) {
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(w.log, "\n"))
			}
		}
		deliver := func() delivery {
			return delivery{
				reverse: rapid.Bool().Draw(t, "reverse"), shuffle: rapid.Uint64Range(0, 3).Draw(t, "shuffle"),
				size: rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(t, "size"),
			}
		}
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
			possible := m.acts(names)
			a := possible[rapid.IntRange(0, len(possible)-1).Draw(t, "act")]
			w.logf("%s", a.what)
			w.now += w.step * repl.Time(rapid.IntRange(-1, 2).Draw(t, "tick"))
			a.do()
			fail(m.sound())
		}
		fail(exchange(rapid.Bool().Draw(t, "together"), deliver(), members...))
		fail(w.atRest(members...))
	})
}

var _ = slices.Sort[[]int]
