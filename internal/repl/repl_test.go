package repl

import (
	"testing"

	"opendfs/internal/version"

	"pgregory.net/rapid"
)

func drawUpdate(t *rapid.T) Update {
	g := version.GVSN{Originator: version.Originator{rapid.ByteRange(1, 3).Draw(t, "originator")}, Version: rapid.Uint64Range(9, 12).Draw(t, "version")}
	return Update{
		UID:          UID{Originator: version.Originator{1}, Version: 9},
		GVSN:         g,
		Fence:        Fence(rapid.Int64Range(0, 4).Draw(t, "fence")),
		Type:         Type(rapid.IntRange(1, 3).Draw(t, "type")),
		NameConflict: rapid.Bool().Draw(t, "nameConflict"),
		CreateTime:   Time(rapid.Int64Range(0, 2).Draw(t, "createTime")),
		Clock:        Time(rapid.Int64Range(0, 2).Draw(t, "clock")),
	}
}

func greater(a, b Update) Update {
	if Compare(&a, &b) >= 0 {
		return a
	}
	return b
}

func TestMaximumIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawUpdate(t), drawUpdate(t), drawUpdate(t)
		if Compare(&a, &b) != -Compare(&b, &a) {
			t.Fatalf("order of %+v and %+v depends on the side", a, b)
		}
		left, right := greater(greater(a, b), c), greater(a, greater(b, c))
		if Compare(&left, &right) != 0 {
			t.Fatalf("maximum depends on grouping: %+v, %+v", left, right)
		}
		if m := greater(a, a); Compare(&m, &a) != 0 {
			t.Fatal("maximum is not idempotent")
		}
	})
}

// drawVersion draws a version of one object as members make it: tombstones that
// lost their name, of directories with an heir, raised fences.
func drawVersion(t *rapid.T, kind Type) Update {
	u := drawUpdate(t)
	u.Type, u.CreateTime = kind, 1
	u.Present = !u.NameConflict && rapid.Bool().Draw(t, "present")
	if u.NameConflict && kind == Directory {
		u.Heir = UID{Originator: version.Originator{2}, Version: rapid.Uint64Range(9, 12).Draw(t, "heir")}
	}
	return u
}

// TestJoinOfVersions: whatever versions of one object a member hears of, in
// whatever order and however often, it ends with the same one (rule 5).
func TestJoinOfVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := Type(rapid.IntRange(1, 3).Draw(t, "type"))
		byGVSN := make(map[version.GVSN]bool)
		var all []Update
		for range rapid.IntRange(1, 6).Draw(t, "versions") {
			if u := drawVersion(t, kind); !byGVSN[u.GVSN] { // one GVSN, one content
				byGVSN[u.GVSN] = true
				all = append(all, u)
			}
		}
		join := func(us []Update) Update {
			best := us[0]
			for _, u := range us[1:] {
				best = greater(best, u)
			}
			return best
		}
		want := join(all)
		for i, a := range all {
			for _, b := range all[i+1:] {
				if Compare(&a, &b) == 0 {
					t.Fatalf("two versions are equal: %+v, %+v", a, b)
				}
				if x, y := greater(a, b), greater(b, a); x.GVSN != y.GVSN || x.Heir != y.Heir || x.Fence != y.Fence {
					t.Fatalf("the greater of %+v and %+v depends on the side", a, b)
				}
			}
		}
		heard := rapid.Permutation(append(append([]Update{}, all...), all...)).Draw(t, "heard")
		got := join(heard)
		if got.GVSN != want.GVSN || got.Heir != want.Heir || got.NameConflict != want.NameConflict || got.Fence != want.Fence {
			t.Fatalf("heard as %+v it comes to %+v, else to %+v", heard, got, want)
		}
		split := rapid.IntRange(0, len(heard)-1).Draw(t, "split")
		left, right := join(heard[:split+1]), join(heard[split:])
		if m := greater(left, right); m.GVSN != want.GVSN {
			t.Fatalf("two members that met with %+v and %+v come to %+v, not %+v", left, right, m, want)
		}
		for _, u := range all {
			if !u.NameConflict && want.NameConflict && Compare(&u, &want) >= 0 {
				t.Fatalf("%+v beats what lost its name for ever", u)
			}
		}
	})
}

// TestHeirsCannotFormACycle: of directories at one place the heir is the greater,
// by what never changes of them (rule 8).
func TestHeirsCannotFormACycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) Update {
			u := drawUpdate(t)
			u.Type, u.NameConflict = Directory, false
			u.UID.Version = uint64(9 + n)
			return u
		}
		a, b, c := draw(0), draw(1), draw(2)
		if ComparePlace(&a, &b) != -ComparePlace(&b, &a) || ComparePlace(&a, &b) == 0 {
			t.Fatalf("the heir of %+v and %+v depends on the side", a, b)
		}
		if ComparePlace(&a, &b) > 0 && ComparePlace(&b, &c) > 0 && ComparePlace(&a, &c) <= 0 {
			t.Fatalf("heirs form a cycle: %+v, %+v, %+v", a, b, c)
		}
		later := a
		later.Clock, later.GVSN.Version, later.Fence = later.Clock+10, later.GVSN.Version+10, later.Fence+1
		if ComparePlace(&later, &b) != ComparePlace(&a, &b) {
			t.Fatalf("another version of %+v changes who is the heir of %+v", a, b)
		}
	})
}

func TestMintExceedsWhatItReplaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prior, other := drawUpdate(t), drawUpdate(t)
		other.Type, other.CreateTime = prior.Type, prior.CreateTime
		draft := drawUpdate(t)
		draft.Type = prior.Type
		draft.Present = !prior.NameConflict
		prior.NameConflict, draft.NameConflict, other.NameConflict = false, false, false
		g := version.GVSN{Originator: version.Originator{9}, Version: 100}
		now := Time(rapid.Int64Range(0, 5).Draw(t, "now"))
		u := Mint(g, now, &prior, draft, &other)
		if Compare(&u, &prior) <= 0 || Compare(&u, &other) <= 0 {
			t.Fatalf("minted %+v is not greater than %+v and %+v", u, prior, other)
		}
		if u.CreateTime != prior.CreateTime || u.UID != prior.UID {
			t.Fatalf("minted %+v changed what never changes of %+v", u, prior)
		}
		if !u.Saw(prior.GVSN) || !u.Saw(other.GVSN) {
			t.Fatalf("history %v of the minted update lacks what its author saw", u.History)
		}
	})
}

func TestHistoryKeepsTheHighest(t *testing.T) {
	var h History
	for i := range 40 {
		h = h.With(version.GVSN{Originator: version.Originator{byte(i)}, Version: uint64(i + 9)})
	}
	if len(h) != MaxHistory {
		t.Fatalf("history has %d entries, limit %d", len(h), MaxHistory)
	}
	last := version.GVSN{Originator: version.Originator{39}, Version: 48}
	if !h.Covers(last) || h.Covers(version.GVSN{Originator: last.Originator, Version: 49}) {
		t.Fatalf("history %v has the wrong idea of %v", h, last)
	}
}

func TestCheckRefusesWhatCannotBe(t *testing.T) {
	good := Update{
		UID: UID{Originator: version.Originator{1}, Version: 9}, GVSN: version.GVSN{Originator: version.Originator{1}, Version: 9},
		Parent: UID{Originator: version.Originator{2}, Version: 1}, Name: "a", Type: File, Present: true, Content: Hash{1},
	}
	if err := good.Check(); err != nil {
		t.Fatalf("good update refused: %v", err)
	}
	for what, spoil := range map[string]func(*Update){
		"slash":        func(u *Update) { u.Name = "a/b" },
		"dotdot":       func(u *Update) { u.Name = ".." },
		"NUL":          func(u *Update) { u.Name = "a\x00" },
		"no name":      func(u *Update) { u.Name = "" },
		"own parent":   func(u *Update) { u.Parent = u.UID },
		"no hash":      func(u *Update) { u.Content = Hash{} },
		"type":         func(u *Update) { u.Type = 9 },
		"size":         func(u *Update) { u.Size = -1 },
		"no uid":       func(u *Update) { u.UID = UID{} },
		"live loser":   func(u *Update) { u.NameConflict = true },
		"live merged":  func(u *Update) { u.Heir = RootUID(FolderID{1}) },
		"long history": func(u *Update) { u.History = make(History, MaxHistory+1) },
	} {
		u := good
		spoil(&u)
		if u.Check() == nil {
			t.Errorf("update with bad %s is accepted: %+v", what, u)
		}
	}
}
