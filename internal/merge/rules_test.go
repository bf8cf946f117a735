package merge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// Stories of two members, each with the rule that it shows. A is the member
// that decides.

// stage is two members that agree on a small tree:
//
//	a (file)  b (file)  d (directory)  d/a (file)  e (directory)
type stage struct {
	*testing.T
	w    *world
	a, b *member
}

func newStage(t *testing.T) *stage {
	w := newWorld(1)
	s := &stage{t, w, w.member("A"), w.member("B")}
	for _, name := range []string{"a", "b"} {
		w.now++
		s.a.create(root, name, repl.File, false)
	}
	for _, name := range []string{"d", "e"} {
		w.now++
		s.a.create(root, name, repl.Directory, false)
	}
	s.a.create(s.at(s.a, "d").UID, "a", repl.File, false)
	s.check(exchange(false, delivery{}, s.a, s.b))
	w.now += 100
	return s
}

func (s *stage) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v\n%s", err, strings.Join(s.w.log, "\n"))
	}
}

// at returns the live record at a path of a member.
func (s *stage) at(m *member, path string) repl.Record {
	s.Helper()
	dir := root
	var rec repl.Record
	for name := range strings.SplitSeq(path, "/") {
		var ok bool
		if rec, ok, _ = m.At(dir, name); !ok {
			s.Fatalf("%s has no %s", m.name, path)
		}
		dir = rec.UID
	}
	return rec
}

func (s *stage) tick() { s.w.now++ }

// since lists what B has and A lacks, in order of GVSN.
func (s *stage) since() []repl.Update {
	var diff []repl.Update
	for _, r := range s.b.recs {
		if !s.a.vec.Contains(r.GVSN) {
			diff = append(diff, r.Update)
		}
	}
	slices.SortFunc(diff, func(x, y repl.Update) int { return x.GVSN.Compare(y.GVSN) })
	return diff
}

// decide is A's verdict on all that B has.
func (s *stage) decide() repl.Plan {
	s.Helper()
	return s.decideOn(s.since()...)
}

func (s *stage) decideOn(updates ...repl.Update) repl.Plan {
	s.Helper()
	plan, err := Decide(s.a, updates, s.b.vec, Options{Folder: folder, ReadOnly: s.a.readOnly, InitialSync: s.a.initial})
	s.check(err)
	return plan
}

// meet brings both to rest and checks that nothing is lost.
func (s *stage) meet() {
	s.Helper()
	s.check(exchange(true, delivery{}, s.a, s.b))
	s.check(s.w.atRest(s.a, s.b))
}

// change finds the one change of a plan for an object.
func (s *stage) change(p *repl.Plan, uid repl.UID) *repl.Change {
	s.Helper()
	for i := range p.Changes {
		if p.Changes[i].Update.UID == uid {
			return &p.Changes[i]
		}
	}
	s.Fatalf("the plan has no change for %s: %s", short(uid), summary(p))
	return nil
}

func summary(p *repl.Plan) string {
	var lines []string
	for i := range p.Changes {
		lines = append(lines, showChange(&p.Changes[i]))
	}
	for i := range p.Waiting {
		lines = append(lines, "waiting "+show(&p.Waiting[i]))
	}
	for _, u := range p.Need {
		lines = append(lines, "need "+short(u))
	}
	for _, b := range p.Bad {
		lines = append(lines, b.Error())
	}
	return strings.Join(lines, "\n")
}

// expect compares verdict and keep of a change.
func (s *stage) expect(p *repl.Plan, uid repl.UID, v repl.Verdict, k repl.Keep) *repl.Change {
	s.Helper()
	c := s.change(p, uid)
	if c.Verdict != v || c.Keep != k {
		s.Fatalf("verdict %v, keep %v; want %v, %v\n%s", c.Verdict, c.Keep, v, k, summary(p))
	}
	return c
}

func (s *stage) mintsNothing(p *repl.Plan) {
	s.Helper()
	for i := range p.Changes {
		if p.Changes[i].Mint {
			s.Fatalf("minted: %s", showChange(&p.Changes[i]))
		}
	}
}

func TestWhatASeenReplacementDoes(t *testing.T) { // rules 5 and 10: B has seen what it replaces
	s := newStage(t)
	a, b, d, e := s.at(s.b, "a"), s.at(s.b, "b"), s.at(s.b, "d"), s.at(s.b, "e")
	s.b.edit(a)
	s.b.chmod(b)
	s.b.rename(s.at(s.b, "d/a"), e.UID, "x")
	moved := s.at(s.b, "e/x")
	s.b.remove(d)
	s.b.create(root, "n", repl.File, false)
	n := s.at(s.b, "n")
	s.b.create(root, "gone", repl.File, false)
	gone := s.at(s.b, "gone")
	s.b.remove(gone)
	p := s.decide()
	if c := s.expect(&p, a.UID, repl.VerdictEdit, repl.KeepNothing); !c.Content || c.Meta || c.From != c.To {
		t.Errorf("edit: %s", showChange(c))
	}
	if c := s.expect(&p, b.UID, repl.VerdictMeta, repl.KeepNothing); c.Content || !c.Meta {
		t.Errorf("meta: %s", showChange(c))
	}
	if c := s.expect(&p, moved.UID, repl.VerdictMove, repl.KeepNothing); c.Content || c.From.Dir != d.UID || c.To != (repl.Place{Dir: e.UID, Name: "x"}) {
		t.Errorf("move: %s", showChange(c))
	}
	s.expect(&p, d.UID, repl.VerdictDelete, repl.KeepNothing)
	if c := s.expect(&p, n.UID, repl.VerdictCreate, repl.KeepNothing); !c.Content || !c.From.IsZero() || c.Was.UID != (repl.UID{}) {
		t.Errorf("create: %s", showChange(c))
	}
	s.expect(&p, gone.UID, repl.VerdictForget, repl.KeepNothing)
	s.mintsNothing(&p)
	if len(p.Need)+len(p.Waiting)+len(p.Known) > 0 {
		t.Errorf("something is open: %s", summary(&p))
	}
	s.meet()
	if p := s.decideOn(s.b.recs[a.UID].Update); len(p.Known) != 1 || len(p.Changes) > 0 {
		t.Errorf("what is on record is not known: %s", summary(&p))
	}
}

func TestWhatIsRemovedOrOverrunIsKept(t *testing.T) { // rule 10
	s := newStage(t)
	a, b := s.at(s.a, "a"), s.at(s.a, "b")
	s.a.edit(a) // not seen by B, and older than B's
	s.tick()
	s.b.edit(a)
	s.b.remove(b)
	p := s.decide()
	s.expect(&p, a.UID, repl.VerdictEdit, repl.KeepConflict)
	s.expect(&p, b.UID, repl.VerdictDelete, repl.KeepDeleted)
	s.meet()

	s = newStage(t)
	a, b = s.at(s.a, "a"), s.at(s.a, "b")
	s.a.edit(a)
	s.tick()
	s.b.remove(a)
	s.a.chmod(b)
	s.tick()
	s.b.edit(b)
	p = s.decide()
	s.expect(&p, a.UID, repl.VerdictDelete, repl.KeepConflict)
	s.expect(&p, b.UID, repl.VerdictEdit, repl.KeepConflict) // the chmod is a version of its own: one update wins whole
	s.meet()
}

func TestUncleanChangeIsKept(t *testing.T) { // rule 19
	s := newStage(t)
	r := s.at(s.a, "a")
	r.Unclean = true
	s.a.recs[r.UID] = r
	s.b.edit(r)
	p := s.decide()
	s.expect(&p, r.UID, repl.VerdictEdit, repl.KeepConflict)
}

func TestSameContentIsNotKeptNorBrought(t *testing.T) { // rule 10
	s := newStage(t)
	r := s.at(s.a, "a")
	s.a.chmod(r)
	s.tick()
	s.b.chmod(r)
	p := s.decide()
	if c := s.expect(&p, r.UID, repl.VerdictMeta, repl.KeepNothing); c.Content {
		t.Errorf("content is brought: %s", showChange(c))
	}
	s.meet()
}

func TestPlacesAreExchangedInOnePlan(t *testing.T) { // rule 9: the incumbent has moved on
	s := newStage(t)
	a, b, d, e := s.at(s.b, "a"), s.at(s.b, "b"), s.at(s.b, "d"), s.at(s.b, "e")
	s.b.swap(a, b)
	s.b.rename(s.b.recs[d.UID], root, "tmp") // d -> e -> f
	s.b.rename(s.b.recs[e.UID], root, "d")
	s.b.rename(s.b.recs[d.UID], root, "e")
	p := s.decide()
	s.mintsNothing(&p)
	private := 0
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Verdict != repl.VerdictMove || c.Group == 0 || c.Content {
			t.Errorf("not a plain move of a group: %s", showChange(c))
		}
		if c.ViaPrivate {
			private++
		}
	}
	if len(p.Changes) != 4 || private != 2 {
		t.Errorf("%d go through the private area of\n%s", private, summary(&p))
	}
	s.meet()

	s = newStage(t) // a chain needs none
	s.b.rename(s.at(s.b, "b"), root, "c")
	s.b.rename(s.at(s.b, "a"), root, "b")
	p = s.decide()
	if len(p.Changes) != 2 || p.Changes[0].To.Name != "c" || p.Changes[0].ViaPrivate || p.Changes[1].ViaPrivate {
		t.Errorf("chain: %s", summary(&p))
	}
	s.meet()
}

func TestHalfASwapWaitsForTheOther(t *testing.T) { // rule 9
	s := newStage(t)
	a, b := s.at(s.b, "a"), s.at(s.b, "b")
	s.b.swap(a, b)
	half := s.b.recs[a.UID].Update
	p := s.decideOn(half)
	if len(p.Changes) > 0 || len(p.Waiting) != 1 || !slices.Equal(p.Need, []repl.UID{b.UID}) {
		t.Fatalf("half a swap: %s", summary(&p))
	}
	p = s.decideOn(half, s.b.recs[b.UID].Update)
	s.mintsNothing(&p)
	if len(p.Changes) != 2 || len(p.Need) > 0 {
		t.Fatalf("whole swap: %s", summary(&p))
	}
}

func TestBackupDanceAndSaveByReplace(t *testing.T) { // rules 9 and 12
	s := newStage(t)
	a := s.at(s.b, "a")
	s.b.rename(a, root, "a~")
	s.b.create(root, "a", repl.File, false)
	fresh := s.at(s.b, "a")
	p := s.decide()
	s.mintsNothing(&p)
	s.expect(&p, a.UID, repl.VerdictMove, repl.KeepNothing)
	s.expect(&p, fresh.UID, repl.VerdictCreate, repl.KeepNothing)
	if p.Changes[0].Update.UID != a.UID {
		t.Errorf("the place is taken before it is left: %s", summary(&p))
	}
	s.meet()

	s = newStage(t)
	target := s.at(s.b, "a")
	s.b.create(root, "a.tmp", repl.File, false)
	s.b.renameOver(s.at(s.b, "a.tmp"), target)
	p = s.decide()
	if c := s.expect(&p, target.UID, repl.VerdictEdit, repl.KeepNothing); c.From != c.To {
		t.Errorf("the target moved: %s", showChange(c))
	}
	s.mintsNothing(&p)
	s.meet()
}

func TestUnknownParentIsAskedFor(t *testing.T) { // rule 4
	s := newStage(t)
	s.b.create(root, "new", repl.Directory, false)
	dir := s.at(s.b, "new")
	s.b.create(dir.UID, "x", repl.File, false)
	child := s.at(s.b, "new/x")
	p := s.decideOn(child.Update)
	if len(p.Changes) > 0 || !slices.Equal(p.Need, []repl.UID{dir.UID}) || len(p.Waiting) != 1 || len(p.Parked) > 0 {
		t.Fatalf("child of an unknown directory: %s", summary(&p))
	}
	p = s.decideOn(child.Update, dir.Update)
	if len(p.Changes) != 2 || p.Changes[0].Update.UID != dir.UID {
		t.Fatalf("parent first: %s", summary(&p))
	}
	plan, err := Decide(s.a, []repl.Update{child.Update}, s.b.vec, Options{Folder: folder, Asked: map[repl.UID]bool{dir.UID: true}})
	s.check(err)
	if len(plan.Parked) != 1 || len(plan.Need) > 0 {
		t.Fatalf("a partner that does not tell of the parent: %s", summary(&plan))
	}
}

func TestNameConflictOfFiles(t *testing.T) { // dfs-facts 1.5, rules 5 and 7
	s := newStage(t)
	s.a.create(root, "n", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.File, false)
	mine, theirs := s.at(s.a, "n"), s.at(s.b, "n")
	p := s.decide() // theirs is newer
	won := s.expect(&p, theirs.UID, repl.VerdictNameWon, repl.KeepConflict)
	lost := s.expect(&p, mine.UID, repl.VerdictNameLost, repl.KeepNothing)
	if won.Object.UID != mine.UID || !won.Content || won.From != won.To || won.Group == 0 || won.Group != lost.Group {
		t.Errorf("the newcomer does not replace the incumbent: %s", summary(&p))
	}
	if !lost.Mint || lost.Update.Present || !lost.Update.NameConflict || lost.Update.Parent != root || lost.Update.Name != "n" {
		t.Errorf("loser: %s", showChange(lost))
	}
	s.a, s.b = s.b, s.a // and seen from the other side, the newcomer loses
	p = s.decide()
	lost = s.expect(&p, mine.UID, repl.VerdictNameLost, repl.KeepNothing)
	if len(p.Changes) != 1 || !lost.From.IsZero() || len(lost.Also) != 1 || lost.Also[0].GVSN != mine.GVSN {
		t.Errorf("newcomer: %s", summary(&p))
	}
	u := lost.Minted(version.GVSN{Originator: version.Originator{'Z'}, Version: 9}, 0)
	if repl.Compare(&u, &mine.Update) <= 0 || !u.Saw(mine.GVSN) || u.CreateTime != mine.CreateTime {
		t.Errorf("minted %s over %s", show(&u), show(&mine.Update))
	}
	s.meet() // both resolve at once
	if r := s.a.recs[mine.UID]; r.Present || !r.NameConflict {
		t.Errorf("the loser is %s", show(&r.Update))
	}
	// The loser stays dead whatever comes for it (rule 7).
	late := mine.Update
	late.GVSN, late.Clock = version.GVSN{Originator: s.b.org, Version: 999}, 1<<40
	if p := s.decideOn(late); len(p.Known) != 1 || len(p.Changes) > 0 {
		t.Errorf("a loser came back: %s", summary(&p))
	}
}

func TestNameConflictOfEqualFiles(t *testing.T) { // rule 10: the same content is nobody's loss
	s := newStage(t)
	s.a.create(root, "n", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.File, false)
	mine, theirs := s.at(s.a, "n"), s.at(s.b, "n")
	s.a.nodeOf(mine.Identity).content = theirs.Content
	mine.Content = theirs.Content
	s.a.recs[mine.UID] = mine
	p := s.decide()
	if c := s.expect(&p, theirs.UID, repl.VerdictNameWon, repl.KeepNothing); c.Content || c.Object.UID != mine.UID {
		t.Errorf("the file at the place is not taken over: %s", showChange(c))
	}
	s.expect(&p, mine.UID, repl.VerdictNameLost, repl.KeepNothing)
}

func TestDirectoryWinsAgainstFile(t *testing.T) { // dfs-facts 1.5
	for _, fence := range []repl.Fence{repl.FenceDefault, 1 << 60} {
		s := newStage(t)
		s.b.create(root, "n", repl.Directory, false)
		dir := s.at(s.b, "n")
		s.b.create(dir.UID, "x", repl.File, false)
		s.tick()
		s.a.create(root, "n", repl.File, false)
		file := s.at(s.a, "n")
		file.Fence = fence
		s.a.recs[file.UID] = file
		p := s.decide()
		lost := s.expect(&p, file.UID, repl.VerdictNameLost, repl.KeepConflict)
		won := s.expect(&p, dir.UID, repl.VerdictNameWon, repl.KeepNothing)
		if lost.From != won.To || !lost.To.IsZero() || p.Changes[0].Update.UID != file.UID {
			t.Errorf("fence %d: the file is not moved aside first: %s", fence, summary(&p))
		}
	}
}

func TestMovedObjectLosesItsName(t *testing.T) { // dfs-facts 1.5: the newcomer was on disk elsewhere
	s := newStage(t)
	a := s.at(s.b, "a")
	s.b.rename(a, root, "n")
	s.tick()
	s.a.create(root, "n", repl.File, false)
	p := s.decide()
	c := s.expect(&p, a.UID, repl.VerdictNameLost, repl.KeepConflict)
	if c.From != (repl.Place{Dir: root, Name: "a"}) || !c.To.IsZero() || c.Update.Name != "n" {
		t.Errorf("the loser: %s", showChange(c))
	}
	s.meet()
}

func TestResolvedLoserIsKeptWhereItLies(t *testing.T) { // rule 10: a resolver is not a user
	s := newStage(t)
	s.a.create(root, "n", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.File, false)
	mine, theirs := s.at(s.a, "n"), s.at(s.b, "n")
	s.check(s.b.pull(s.a.snapshot(), delivery{})) // B has never had A's content
	p := s.decide()
	s.expect(&p, mine.UID, repl.VerdictDelete, repl.KeepConflict)
	s.expect(&p, theirs.UID, repl.VerdictCreate, repl.KeepNothing)
	s.mintsNothing(&p)
	if p.Changes[0].Update.UID != mine.UID {
		t.Errorf("the winner comes before the loser has left: %s", summary(&p))
	}
	s.meet()
}

func TestDirectoriesAreMerged(t *testing.T) { // rule 8
	s := newStage(t)
	s.a.create(root, "n", repl.Directory, false)
	mine := s.at(s.a, "n")
	s.a.create(mine.UID, "x", repl.File, false)
	s.a.create(mine.UID, "only-a", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.Directory, false)
	theirs := s.at(s.b, "n")
	s.b.create(theirs.UID, "x", repl.File, false)
	p := s.decide()
	heir := s.expect(&p, theirs.UID, repl.VerdictAdopt, repl.KeepNothing)
	lost := s.expect(&p, mine.UID, repl.VerdictMerged, repl.KeepNothing)
	if heir.Object.UID != mine.UID || heir.From != heir.To || !lost.From.IsZero() || lost.Update.Heir != theirs.UID || !lost.Mint {
		t.Errorf("the heir does not take the directory over: %s", summary(&p))
	}
	if len(p.Changes) != 4 { // the two files x meet in it; only-a stays where it is, unmentioned
		t.Errorf("%s", summary(&p))
	}
	s.meet()
	for _, m := range []*member{s.a, s.b} {
		if r := s.at(m, "n"); r.UID != theirs.UID || len(m.children(r.UID)) != 2 {
			t.Errorf("%s has %s", m.name, show(&r.Update))
		}
	}
}

func TestMergedDirectoriesThatLieApartAreJoined(t *testing.T) { // rule 8: both have a directory on disk
	s := newStage(t)
	d, e := s.at(s.a, "d"), s.at(s.a, "e")
	s.a.rename(d, root, "n")
	s.b.rename(e, root, "n")
	s.b.create(e.UID, "a", repl.File, false)
	both := append(s.since(), s.b.recs[d.UID].Update, s.b.recs[s.at(s.b, "d/a").UID].Update)
	p := s.decideOn(both...)
	c := s.change(&p, s.at(s.a, "n/a").UID)
	if c.Verdict != repl.VerdictNameLost {
		t.Errorf("two files meet in the heir: %s", summary(&p))
	}
	lost := s.expect(&p, d.UID, repl.VerdictMerged, repl.KeepNothing)
	if lost.From.IsZero() || lost.Update.Heir != e.UID {
		t.Errorf("the emptied directory is not removed: %s", summary(&p))
	}
	s.meet()
}

func TestProvisionalGivesWay(t *testing.T) { // rule 13, dfs-facts 1.11
	s := newStage(t)
	c := s.w.member("C")
	c.initial = true
	for _, name := range []string{"a", "b", "d", "extra"} {
		kind := repl.File
		if name == "d" {
			kind = repl.Directory
		}
		c.create(root, name, kind, false)
	}
	c.create(root, "e", repl.File, false) // the partner has a directory there
	d, _, _ := c.At(root, "d")
	c.create(d.UID, "mine", repl.File, false)
	same := s.at(s.b, "a")
	mine, _, _ := c.At(root, "a")
	mine.Content = same.Content
	c.nodeOf(mine.Identity).content = same.Content
	c.recs[mine.UID] = mine
	s.a = c
	p := s.decide()
	s.mintsNothing(&p)
	if adopt := s.expect(&p, same.UID, repl.VerdictAdopt, repl.KeepNothing); adopt.Content || adopt.Meta || adopt.Object.UID != mine.UID {
		t.Errorf("same content: %s", showChange(adopt))
	}
	edit := s.expect(&p, s.at(s.b, "b").UID, repl.VerdictEdit, repl.KeepConflict)
	if !edit.Content || edit.From != edit.To || !edit.Object.Provisional {
		t.Errorf("other content: %s", showChange(edit))
	}
	dir := s.expect(&p, s.at(s.b, "d").UID, repl.VerdictAdopt, repl.KeepNothing)
	alias := s.expect(&p, d.UID, repl.VerdictDropProvisional, repl.KeepNothing)
	if dir.Object.UID != d.UID || alias.Drop || alias.Mint || alias.Update.Heir != dir.Update.UID {
		t.Errorf("directory: %s", summary(&p))
	}
	file := s.expect(&p, s.at(c, "e").UID, repl.VerdictDropProvisional, repl.KeepConflict)
	if !file.Drop || file.From.IsZero() || !file.To.IsZero() {
		t.Errorf("another type: %s", showChange(file))
	}
	s.check(c.carryOut(&p, s.b.snapshot()))
	s.check(c.sound())
	c.endInitialSync()
	s.check(c.sound())
	if len(c.kept) != 4 {
		t.Errorf("%d contents are kept of b, e, extra and d/mine", len(c.kept))
	}
}

func TestDeadDirectoryIsRevivedForItsChild(t *testing.T) { // rule 11
	s := newStage(t)
	d := s.at(s.a, "d")
	s.b.create(d.UID, "new", repl.File, false) // B has not seen the deletion
	s.a.remove(d)
	child := s.at(s.b, "d/new")
	p := s.decideOn(child.Update)
	if !slices.Equal(p.Need, []repl.UID{d.UID}) {
		t.Fatalf("the partner's record of the directory is not asked for: %s", summary(&p))
	}
	p = s.decideOn(child.Update, s.b.recs[d.UID].Update)
	back := s.expect(&p, d.UID, repl.VerdictRevived, repl.KeepNothing)
	if !back.Mint || !back.Update.Present || back.To != (repl.Place{Dir: root, Name: "d"}) || p.Changes[0].Update.UID != d.UID {
		t.Errorf("revived: %s", summary(&p))
	}
	s.meet()
	s.at(s.a, "d/new")

	s = newStage(t) // and the other way round: the deletion comes to the child
	d = s.at(s.a, "d")
	s.a.create(d.UID, "new", repl.File, false)
	s.b.remove(d)
	p = s.decide()
	back = s.expect(&p, d.UID, repl.VerdictRevived, repl.KeepNothing)
	if !back.Mint || back.From != back.To || back.Meta {
		t.Errorf("kept alive: %s", showChange(back))
	}
	s.meet()
	s.at(s.b, "d/new")
}

func TestDeadDirectoryComesBackByThePartner(t *testing.T) { // rule 11: the partner has settled it
	s := newStage(t)
	d := s.at(s.a, "d")
	s.a.remove(d)
	s.b.create(d.UID, "new", repl.File, false)
	s.check(s.b.pull(s.a.snapshot(), delivery{})) // B revives
	child := s.at(s.b, "d/new")
	p := s.decideOn(child.Update)
	if !slices.Equal(p.Need, []repl.UID{d.UID}) || len(p.Waiting) != 1 {
		t.Fatalf("not asked: %s", summary(&p))
	}
	p = s.decideOn(child.Update, s.b.recs[d.UID].Update)
	s.mintsNothing(&p)
	s.expect(&p, d.UID, repl.VerdictCreate, repl.KeepNothing)
}

func TestDyingDirectoryWaitsForItsChildren(t *testing.T) { // rules 9 and 21
	s := newStage(t)
	d, child := s.at(s.b, "d"), s.at(s.b, "d/a")
	s.b.remove(d)
	p := s.decideOn(s.b.recs[d.UID].Update)
	if !slices.Equal(p.Need, []repl.UID{child.UID}) || len(p.Changes) > 0 {
		t.Fatalf("the directory's tombstone alone: %s", summary(&p))
	}
	p = s.decide()
	s.mintsNothing(&p)
	if len(p.Changes) != 2 || p.Changes[1].Update.UID != d.UID {
		t.Fatalf("children before their directory: %s", summary(&p))
	}
}

func TestRingIsOpened(t *testing.T) { // dfs-facts 1.5, [MS-FRS2] 3.3.4.6.2
	s := newStage(t)
	d, e := s.at(s.a, "d"), s.at(s.a, "e")
	s.a.rename(d, e.UID, "d")
	s.b.rename(e, d.UID, "e")
	p := s.decide()
	if !slices.Equal(p.Need, []repl.UID{d.UID}) {
		t.Fatalf("the partner's record of d is not asked for: %s", summary(&p))
	}
	p = s.decideOn(s.b.recs[e.UID].Update, s.b.recs[d.UID].Update)
	c := s.expect(&p, e.UID, repl.VerdictCycleBroken, repl.KeepNothing)
	if !c.Mint || c.Update.Parent != root || c.Update.Name != "e" || c.From != c.To {
		t.Errorf("the move is not undone: %s", showChange(c))
	}
	s.meet()
	s.at(s.a, "d")
	s.at(s.a, "e")
}

func TestReadOnlyMemberParks(t *testing.T) { // rule 13
	s := newStage(t)
	s.a.create(root, "n", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.File, false)
	s.b.edit(s.at(s.b, "a"))
	s.a.readOnly = true
	p := s.decide()
	s.mintsNothing(&p)
	if len(p.Changes) != 1 || len(p.Waiting) != 1 || len(p.Parked) != 1 || p.Parked[0].GVSN != p.Waiting[0].GVSN || !strings.Contains(p.Parked[0].Why, "read-only") {
		t.Errorf("parked %v: %s", p.Parked, summary(&p))
	}
	s.a.readOnly, s.a.initial = false, true
	if p := s.decide(); len(p.Parked) != 1 || !strings.Contains(p.Parked[0].Why, "initial sync") {
		t.Errorf("parked %v: %s", p.Parked, summary(&p))
	}
}

// What the author of two objects had at one place, one after the other, is no
// conflict: where the second is known and of the first only that it was there, it is
// said what is waited for.
func TestWhatLeftAPlaceIsWaitedFor(t *testing.T) { // rules 9 and 16
	s := newStage(t)
	s.b.create(root, "n", repl.File, false)
	first := s.at(s.b, "n")
	s.b.rename(first, root, "m")
	s.b.rename(s.at(s.b, "d"), root, "n")
	second := s.a.recs[s.at(s.b, "n").UID]
	second.Update = s.at(s.b, "n").Update
	s.a.recs[second.UID] = second
	plan, err := Decide(s.a, []repl.Update{first.Update}, s.b.vec, Options{Folder: folder, Asked: map[repl.UID]bool{second.UID: true}})
	s.check(err)
	if len(plan.Changes) > 0 || len(plan.Need) > 0 || len(plan.Waiting) != 1 || len(plan.Parked) != 1 || !strings.Contains(plan.Parked[0].Why, "its author") {
		t.Errorf("parked %v: %s", plan.Parked, summary(&plan))
	}
}

func TestWhatCannotBeTrueIsRefused(t *testing.T) { // rules 3, 6, 7 and 8
	s := newStage(t)
	a, d := s.at(s.a, "a"), s.at(s.a, "d")
	s.b.chmod(s.at(s.b, "b"))
	s.b.chmod(s.at(s.b, "a"))
	s.b.chmod(s.at(s.b, "d"))
	for what, c := range map[string]struct {
		spoil func(*repl.Update)
		want  error
	}{
		"another type":        {func(u *repl.Update) { u.Type = repl.Symlink }, ErrType},
		"another creation":    {func(u *repl.Update) { u.CreateTime++ }, ErrCreateTime},
		"a rewritten version": {func(u *repl.Update) { u.GVSN = a.GVSN; u.Content[9]++ }, ErrRewritten},
		"a file's heir":       {func(u *repl.Update) { u.Present, u.NameConflict, u.Type, u.UID = false, true, repl.Directory, d.UID }, ErrHeir},
		"no parent":           {func(u *repl.Update) { u.Parent, u.Name = repl.UID{}, "" }, ErrRoot},
		"a file as parent":    {func(u *repl.Update) { u.Parent = s.at(s.a, "b").UID }, ErrParent},
		"a bad name":          {func(u *repl.Update) { u.Name = "x/y" }, nil},
	} {
		good, bad := s.b.recs[s.at(s.b, "b").UID].Update, s.b.recs[a.UID].Update
		c.spoil(&bad)
		p := s.decideOn(bad, good)
		if len(p.Bad) != 1 || p.Bad[0].GVSN != bad.GVSN || c.want != nil && !errors.Is(p.Bad[0], c.want) {
			t.Errorf("%s: %v", what, p.Bad)
		}
		if len(p.Changes) != 1 || p.Changes[0].Update.GVSN != good.GVSN {
			t.Errorf("%s stops the rest: %s", what, summary(&p))
		}
	}
}

func TestVersionsOfOneObjectInABatch(t *testing.T) { // the greatest counts, the others are settled with it
	s := newStage(t)
	r := s.at(s.b, "a")
	s.b.edit(r)
	older := s.b.recs[r.UID].Update
	s.b.edit(s.b.recs[r.UID])
	newer := s.b.recs[r.UID].Update
	for _, batch := range [][]repl.Update{{older, newer}, {newer, older}, {newer, older, newer}} {
		p := s.decideOn(batch...)
		if len(p.Changes) != 1 || p.Changes[0].Update.GVSN != newer.GVSN || !slices.Contains(p.Changes[0].Settles(), older.GVSN) || len(p.Known)+len(p.Waiting) > 0 {
			t.Errorf("%s", summary(&p))
		}
	}
}

func TestVerdictIsAFunctionOfItsInputs(t *testing.T) {
	s := newStage(t)
	s.a.create(root, "n", repl.Directory, false)
	s.b.create(root, "n", repl.Directory, false)
	s.b.swap(s.at(s.b, "a"), s.at(s.b, "b"))
	s.b.remove(s.at(s.b, "d"))
	before := fmt.Sprint(s.since())
	first, second := s.decide(), s.decide()
	if summary(&first) != summary(&second) {
		t.Errorf("first\n%s\nsecond\n%s", summary(&first), summary(&second))
	}
	if fmt.Sprint(s.since()) != before {
		t.Error("the batch was changed")
	}
}

func TestErrorOfTheViewIsReturned(t *testing.T) {
	s := newStage(t)
	s.b.edit(s.at(s.b, "a"))
	broken := errors.New("broken disk")
	if _, err := Decide(failing{s.a, broken}, s.since(), s.b.vec, Options{Folder: folder}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct {
	*member
	err error
}

func (f failing) Get(repl.UID) (repl.Record, bool, error) { return repl.Record{}, false, f.err }

func TestUnsettledSwapWithConcurrentEdit(t *testing.T) { // rules 5 and 9
	s := newStage(t)
	a, b := s.at(s.b, "a"), s.at(s.b, "b")
	s.b.swap(a, b)
	s.tick()
	s.a.edit(a) // newer than the swap: a stays where it is, b lost its place to it or takes it
	s.meet()
	live := 0
	for _, uid := range []repl.UID{a.UID, b.UID} {
		if s.a.recs[uid].Present {
			live++
		}
	}
	if live == 0 {
		t.Error("both are dead")
	}
}

func TestDirectoryMovesBelowWhatLeavesIt(t *testing.T) { // rename(2): nothing moves into itself
	s := newStage(t)
	d := s.at(s.a, "d")
	s.a.create(d.UID, "y", repl.Directory, false)
	y := s.at(s.a, "d/y")
	s.a.create(y.UID, "z", repl.Directory, false)
	s.meet()
	s.b.rename(s.at(s.b, "d/y"), root, "y")
	s.b.rename(s.at(s.b, "d"), s.at(s.b, "y/z").UID, "d")
	p := s.decideOn(s.b.recs[d.UID].Update, s.b.recs[y.UID].Update)
	if len(p.Changes) != 2 || p.Changes[0].Update.UID != y.UID {
		t.Errorf("d moves into what is still its own: %s", summary(&p))
	}
	s.meet()
}

func TestMergeOfThePartnerWaitsForWhatMeetsInIt(t *testing.T) { // rules 8 and 9
	s := newStage(t)
	d, e := s.at(s.a, "d"), s.at(s.a, "e")
	s.a.create(e.UID, "a", repl.File, false)
	s.meet()
	mine, theirs := s.at(s.a, "d/a"), s.at(s.a, "e/a")
	c := s.w.member("C")
	s.check(exchange(false, delivery{}, s.a, c))
	s.b.rename(d, root, "n")
	c.rename(e, root, "n")
	s.check(exchange(false, delivery{}, s.b, c)) // they merge d into e, and one file a dies
	merged := s.b.recs[d.UID].Update
	if merged.Heir != e.UID {
		t.Fatalf("not merged: %s", show(&merged))
	}
	p := s.decideOn(merged)
	if len(p.Changes) > 0 || len(p.Waiting) != 1 || !slices.Contains(p.Need, mine.UID) || !slices.Contains(p.Need, theirs.UID) {
		t.Errorf("two files meet unasked: %s", summary(&p))
	}
	p = s.decide()
	s.mintsNothing(&p)
	s.meet()
}

// What lies in a directory that is merged into one that is merged as well goes to the
// last heir: if only one of both came about, it would lie elsewhere than on record.
func TestMergesOfOneAfterTheOtherStandOrFallTogether(t *testing.T) { // rule 8
	s := newStage(t)
	s.a.create(root, "f", repl.Directory, false)
	s.meet()
	d, e, f := s.at(s.a, "d"), s.at(s.a, "e"), s.at(s.a, "f")
	c := s.w.member("C")
	s.check(exchange(false, delivery{}, s.a, c))
	s.b.rename(s.at(s.b, "d"), root, "n")
	c.rename(s.at(c, "e"), root, "n")
	s.check(exchange(false, delivery{}, s.b, c))
	s.b.rename(s.at(s.b, "n"), root, "o")
	c.rename(s.at(c, "f"), root, "o")
	s.check(exchange(false, delivery{}, s.b, c))
	p := s.decide()
	first := s.expect(&p, d.UID, repl.VerdictMerged, repl.KeepNothing)
	second := s.expect(&p, e.UID, repl.VerdictMerged, repl.KeepNothing)
	if first.Update.Heir != e.UID || second.Update.Heir != f.UID {
		t.Fatalf("no chain of merges: %s", summary(&p))
	}
	if first.Group == 0 || first.Group != second.Group {
		t.Errorf("one may come about without the other: %s", summary(&p))
	}
	s.meet()
}

func TestRevivedDirectoryWaitsForItsPlace(t *testing.T) { // rules 9 and 11: nothing half decided is left
	s := newStage(t)
	d, a := s.at(s.a, "d"), s.at(s.a, "a")
	s.b.create(d.UID, "new", repl.File, false)
	s.a.remove(d)
	s.a.rename(a, root, "d")
	p := s.decideOn(s.at(s.b, "d/new").Update, s.b.recs[d.UID].Update)
	if len(p.Changes) > 0 || len(p.Waiting) != 1 || !slices.Equal(p.Need, []repl.UID{a.UID}) {
		t.Errorf("the incumbent is not asked for first: %s", summary(&p))
	}
	s.meet()
	s.at(s.a, "d/new")
}

// A third member's replacement of what B still has at the place: only the second
// half of what it did has come.
func TestWhatLeftItsPlaceIsNoConflict(t *testing.T) { // rule 9
	s := newStage(t)
	old := s.at(s.b, "d")
	s.a.remove(s.at(s.a, "d/a"))
	s.a.remove(s.at(s.a, "d"))
	s.tick()
	s.a.create(root, "d", repl.Directory, false)
	young := s.at(s.a, "d")
	plan, err := Decide(s.b, []repl.Update{young.Update}, version.Vector{young.GVSN.Originator: {{Low: young.GVSN.Version - 1, High: young.GVSN.Version}}}, Options{Folder: folder})
	s.check(err)
	s.mintsNothing(&plan)
	if len(plan.Changes) > 0 || len(plan.Waiting) != 1 || plan.Waiting[0].UID != young.UID {
		t.Errorf("%s left its place before %s came there: %s", short(old.UID), short(young.UID), summary(&plan))
	}
}

func TestNothingIsSettledWithWhatIsHalfKnown(t *testing.T) { // rule 9
	s := newStage(t)
	s.a.create(root, "n", repl.File, false)
	s.tick()
	s.b.create(root, "n", repl.File, false)
	mine, theirs := s.at(s.a, "n"), s.at(s.b, "n")
	opts := Options{Folder: folder, Vector: s.a.vec.Minus(version.Vector{mine.GVSN.Originator: {{Low: mine.GVSN.Version - 1, High: mine.GVSN.Version}}})}
	plan, err := Decide(s.a, s.since(), s.b.vec, opts)
	s.check(err)
	s.mintsNothing(&plan)
	if len(plan.Waiting) != 1 || plan.Waiting[0].UID != theirs.UID || len(plan.Need) > 0 {
		t.Errorf("the diff that brought %s has not ended: %s", short(mine.UID), summary(&plan))
	}
	opts.Own = mine.GVSN.Originator
	plan, err = Decide(s.a, s.since(), s.b.vec, opts)
	s.check(err)
	if c := s.change(&plan, mine.UID); c.Verdict != repl.VerdictNameLost {
		t.Errorf("what this member made itself it knows in full: %s", summary(&plan))
	}
}
