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
