package directory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// enterprise is a domain of hub, branch and lab and the key of its CA.
type enterprise struct {
	key *ecdsa.PrivateKey
	doc *Document
}

func newDomain(t *testing.T) *enterprise {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &enterprise{key, completed(t)}
}

// options are those of a server with a state directory of its own. The CA's
// key is there if ca says so.
func (e *enterprise) options(t *testing.T, server string, ca bool) FileOptions {
	t.Helper()
	o := FileOptions{Dir: filepath.Join(t.TempDir(), "state"), Self: e.doc.Domain.ServerByName(server).ID, Key: e.key.Public(), Rand: rand.Reader}
	if ca {
		o.Signer = crypto.Signer(e.key)
	}
	return o
}

func (e *enterprise) master(t *testing.T) *File {
	t.Helper()
	f, err := CreateFile(e.options(t, "hub", true), e.doc)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (e *enterprise) copyOf(t *testing.T, master *File, server string, ca bool) *File {
	t.Helper()
	f, err := CreateCopy(e.options(t, server, ca), master.Signed())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reopen opens the state directory again, as after a restart.
func reopen(t *testing.T, f *File) *File {
	t.Helper()
	g, err := OpenFile(f.options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func generation(t *testing.T, s Store) uint64 {
	t.Helper()
	return load(t, s).Domain.Generation
}

func update(t *testing.T, s Store, server string) *Document {
	t.Helper()
	doc, err := s.Update(t.Context(), generation(t, s), change(t, s, server))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (f *File) at(name string) string { return f.disk.path(name) }

func TestFilesAreForTheMemberAlone(t *testing.T) {
	f := newDomain(t).master(t)
	update(t, f, "new")
	for name, want := range map[string]fs.FileMode{"": 0o700, yamlName: 0o600, copyName: 0o600, oldCopyName: 0o600} {
		info, err := os.Stat(f.at(name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v (%v), want %v", name, info.Mode().Perm(), err, want)
		}
	}
	left, _ := filepath.Glob(f.at("*" + tempSuffix))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if got := string(readFile(t, f.at(yamlName))); got != string(load(t, f).Text()) {
		t.Errorf("domain.yaml is not the document:\n%s", got)
	}
}

func TestAStateDirectoryBelongsToOneDomain(t *testing.T) {
	e := newDomain(t)
	f := e.master(t)
	if _, err := CreateFile(f.options, e.doc); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second domain in one state directory: %v", err)
	}
	if _, err := CreateCopy(f.options, f.Signed()); err == nil {
		t.Error("a copy over a master's domain was taken")
	}
	if _, err := OpenFile(e.options(t, "hub", true)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "dfs init") {
		t.Errorf("opening nothing: %v", err)
	}
	if _, err := CreateFile(FileOptions{Dir: t.TempDir(), Self: UUID{1}, Key: e.key.Public(), Signer: e.key, Rand: rand.Reader}, e.doc); err == nil {
		t.Error("a server that the domain does not name became its master")
	}
	o := e.options(t, "hub", true)
	o.Key = newDomain(t).key.Public()
	if _, err := CreateFile(o, e.doc); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("a private key that is not the CA's signs: %v", err)
	}
}

// The master changes the domain; copies go from partner to partner.
func TestCopiesAreRelayedAndKeptOverARestart(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch := e.copyOf(t, hub, "branch", false)
	lab := e.copyOf(t, hub, "lab", false)
	seen := lab.Watch(t.Context())
	<-seen

	update(t, hub, "new")
	if changed, err := branch.Accept(hub.Signed()); err != nil || !changed {
		t.Fatalf("branch takes the hub's copy: %v, %v", changed, err)
	}
	if changed, err := lab.Accept(branch.Signed()); err != nil || !changed {
		t.Fatalf("lab takes it from branch: %v, %v", changed, err)
	}
	if changed, err := lab.Accept(hub.Signed()); err != nil || changed {
		t.Errorf("lab is told what it knows: %v, %v", changed, err)
	}
	if d := <-seen; d.Generation != 2 || d.ServerByName("new") == nil {
		t.Errorf("who watches on lab saw generation %d", d.Generation)
	}
	lab = reopen(t, lab)
	if got := load(t, lab); !got.Domain.Equal(load(t, hub).Domain) || string(got.Text()) != string(load(t, hub).Text()) {
		t.Error("after a restart lab knows another domain than hub")
	}
	if m, self := lab.Master(); self || m != hub.options.Self {
		t.Errorf("lab takes %v for the master, itself: %v", m, self)
	}
	if m, self := reopen(t, hub).Master(); !self || m != hub.options.Self {
		t.Errorf("hub is no longer the master after a restart")
	}
}

func TestOldForeignAndForgedCopiesAreRefused(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch := e.copyOf(t, hub, "branch", false)
	old := hub.Signed()
	update(t, hub, "new")
	if _, err := branch.Accept(hub.Signed()); err != nil {
		t.Fatal(err)
	}
	if changed, err := branch.Accept(old); !errors.Is(err, ErrOlderCopy) || changed {
		t.Errorf("an older copy: %v, %v", changed, err)
	}
	foreign := e.doc.Domain.Clone()
	foreign.ID, foreign.Generation = UUID{1}, 99
	foreignDoc := must(NewDocument(foreign))
	if _, err := branch.Accept(must(Sign(foreignDoc, hub.options.Self, e.key, rand.Reader)).Encode()); !errors.Is(err, ErrForeign) {
		t.Errorf("a copy of another domain: %v", err)
	}
	newer := load(t, hub).Domain.Clone()
	newer.Generation = 99
	stranger := newDomain(t).key
	if _, err := branch.Accept(must(Sign(must(NewDocument(newer)), hub.options.Self, stranger, rand.Reader)).Encode()); !errors.Is(err, ErrBadCopy) {
		t.Errorf("a copy signed by a stranger: %v", err)
	}
	s := must(DecodeSigned(hub.Signed()))
	s.Generation = 99
	if _, err := branch.Accept(s.Encode()); !errors.Is(err, ErrBadCopy) {
		t.Errorf("a copy with another generation in its header: %v", err)
	}
	if g := generation(t, branch); g != 2 {
		t.Errorf("branch is at generation %d, want 2", g)
	}
}

// An edit of a copy is refused with a hint that names the master.
func TestACopyCannotBeEdited(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch := e.copyOf(t, hub, "branch", false)

	var notMaster *NotMasterError
	_, err := branch.Update(t.Context(), 1, change(t, branch, "new"))
	if !errors.As(err, &notMaster) || notMaster.Master != "hub" || !strings.Contains(err.Error(), "the master is hub (10.77.0.1:7440)") {
		t.Errorf("update on a copy: %v", err)
	}

	// A domain.yaml beside the copy is not used, now or after a restart, ...
	if err := os.WriteFile(branch.at(yamlName), change(t, branch, "rogue").Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Refresh(); !errors.As(err, &notMaster) {
		t.Errorf("refresh with a domain.yaml on a copy: %v", err)
	}
	branch = reopen(t, branch)
	if err := branch.Refused(); !errors.As(err, &notMaster) || !strings.Contains(err.Error(), branch.at(yamlName)) {
		t.Errorf("refused says %v", err)
	}
	if load(t, branch).Domain.ServerByName("rogue") != nil {
		t.Error("an edit on a copy is in use")
	}
	// ... and when it is gone all is well.
	if err := os.Remove(branch.at(yamlName)); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Refresh(); err != nil || branch.Refused() != nil {
		t.Errorf("after the file is gone: %v, %v", err, branch.Refused())
	}

	// The copy itself cannot be edited either: the one before it is used.
	update(t, hub, "new")
	if _, err := branch.Accept(hub.Signed()); err != nil {
		t.Fatal(err)
	}
	raw := strings.Replace(string(readFile(t, branch.at(copyName))), "/srv/docs", "/etc/docs", 1)
	if err := os.WriteFile(branch.at(copyName), []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	branch = reopen(t, branch)
	if g := generation(t, branch); g != 1 {
		t.Errorf("with an edited copy branch is at generation %d, want that of the copy before", g)
	}
	if _, err := branch.Accept(hub.Signed()); err != nil || generation(t, reopen(t, branch)) != 2 {
		t.Errorf("a damaged copy is not replaced by a partner's: %v", err)
	}
}

func TestBothCopiesDamaged(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	update(t, hub, "new")
	branch := e.copyOf(t, hub, "branch", false)
	for _, f := range []*File{hub, branch} {
		for _, name := range []string{copyName, oldCopyName} {
			if err := os.WriteFile(f.at(name), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := OpenFile(branch.options); !errors.Is(err, ErrBadCopy) {
		t.Errorf("a member without a good copy: %v", err)
	}
	hub = reopen(t, hub) // the master has its domain.yaml
	if g := generation(t, hub); g != 2 {
		t.Errorf("the master is at generation %d, want 2", g)
	}
	if g := generation(t, reopen(t, hub)); g != 2 {
		t.Errorf("the master's copy was not made again")
	}
}

// The administrator edits STATE/domain.yaml on the master.
func TestEditsByHand(t *testing.T) {
	hub := newDomain(t).master(t)
	write := func(text string) {
		t.Helper()
		// Editors replace the file; the new one is another inode.
		if err := os.WriteFile(hub.at("edit"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(hub.at("edit"), hub.at(yamlName)); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := hub.Refresh(); changed || err != nil {
		t.Errorf("refresh without an edit: %v, %v", changed, err)
	}

	write(string(change(t, hub, "byhand").Text()))
	if changed, err := hub.Refresh(); !changed || err != nil {
		t.Fatalf("refresh after an edit: %v, %v", changed, err)
	}
	d := load(t, hub).Domain
	if d.Generation != 2 || d.ServerByName("byhand").ID.IsZero() {
		t.Errorf("the edit is at generation %d: %+v", d.Generation, d.ServerByName("byhand"))
	}
	if !strings.Contains(string(readFile(t, hub.at(yamlName))), "byhand: {id: ") {
		t.Error("the id was not written back")
	}

	good := string(load(t, hub).Text())
	write(good + "nonsense: 1\n")
	var ps Problems
	if changed, err := hub.Refresh(); changed || !errors.As(err, &ps) || ps[0].Line < 30 {
		t.Errorf("refresh after a broken edit: %v, %v", changed, err)
	}
	if changed, err := hub.Refresh(); changed || err != nil {
		t.Errorf("the same edit is told twice: %v, %v", changed, err)
	}
	hub = reopen(t, hub)
	if err := hub.Refused(); !errors.As(err, &ps) || generation(t, hub) != 2 {
		t.Errorf("after a restart: %v at generation %d", err, generation(t, hub))
	}
	// A command goes through all the same; the broken edit is kept aside.
	update(t, hub, "command")
	if got := string(readFile(t, hub.at(refusedName))); got != good+"nonsense: 1\n" || hub.Refused() != nil {
		t.Errorf("the edit was not kept, or is still told (%v):\n%s", hub.Refused(), got)
	}

	write(good) // of generation 2, which is no more
	var conflict *ConflictError
	if changed, err := hub.Refresh(); changed || !errors.As(err, &conflict) || conflict.Base != 2 || conflict.Current != 3 {
		t.Errorf("refresh after a late edit: %v, %v", changed, err)
	}
	write(string(load(t, hub).Text()))
	if _, err := hub.Refresh(); err != nil || hub.Refused() != nil {
		t.Errorf("after the edit is undone: %v, %v", err, hub.Refused())
	}

	if err := os.Remove(hub.at(yamlName)); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Refresh(); err != nil || string(readFile(t, hub.at(yamlName))) != string(load(t, hub).Text()) {
		t.Errorf("a deleted domain.yaml is not written again: %v", err)
	}
}

// An edit while the daemon is down is a change like another.
func TestEditWhileDown(t *testing.T) {
	hub := newDomain(t).master(t)
	if err := os.WriteFile(hub.at(yamlName), change(t, hub, "byhand").Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	hub = reopen(t, hub)
	if d := load(t, hub).Domain; d.Generation != 2 || d.ServerByName("byhand") == nil {
		t.Errorf("generation %d, byhand: %v", d.Generation, d.ServerByName("byhand"))
	}
}

// An edit that Refresh has not seen is not overwritten by a command.
func TestACommandComesAfterAnEdit(t *testing.T) {
	hub := newDomain(t).master(t)
	next := change(t, hub, "command")
	if err := os.WriteFile(hub.at(yamlName), change(t, hub, "byhand").Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	var conflict *ConflictError
	if _, err := hub.Update(t.Context(), 1, next); !errors.As(err, &conflict) || conflict.Current != 2 {
		t.Errorf("update over an unseen edit: %v", err)
	}
	if load(t, hub).Domain.ServerByName("byhand") == nil {
		t.Error("the edit is lost")
	}
}

func TestTheMasterStaysInTheDomain(t *testing.T) {
	hub := newDomain(t).master(t)
	d := load(t, hub).Domain.Clone()
	d.Servers = slices.DeleteFunc(d.Servers, func(s *Server) bool { return s.Name == "hub" })
	d.Groups = nil
	if _, err := hub.Update(t.Context(), 1, must(NewDocument(d))); err == nil || !strings.Contains(err.Error(), "dfs directory promote") {
		t.Errorf("the master was removed: %v", err)
	}
}

// The hub burns down; branch is promoted. The hub comes back.
func TestPromotion(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch := e.copyOf(t, hub, "branch", true)
	lab := e.copyOf(t, hub, "lab", false)

	if err := lab.Promote(); err == nil || !strings.Contains(err.Error(), "dfs ca import") {
		t.Errorf("promotion without the CA's key: %v", err)
	}
	if err := branch.Promote(); err != nil {
		t.Fatal(err)
	}
	if err := branch.Promote(); err != nil || load(t, branch).Domain.Term != 2 {
		t.Errorf("a second promotion is not nothing: %v, term %d", err, load(t, branch).Domain.Term)
	}
	update(t, branch, "rebuilt")
	if _, err := lab.Accept(branch.Signed()); err != nil {
		t.Fatalf("lab follows the new master: %v", err)
	}

	// The old master, alone, changed more often than the new one.
	for i := range 5 {
		update(t, hub, fmt.Sprintf("lonely%d", i))
	}
	lonely := string(load(t, hub).Text())
	if _, err := lab.Accept(hub.Signed()); !errors.Is(err, ErrOlderCopy) {
		t.Errorf("lab listens to the old master: %v", err)
	}
	if changed, err := hub.Accept(lab.Signed()); err != nil || !changed {
		t.Fatalf("the old master hears of the new: %v, %v", changed, err)
	}
	for _, hub := range []*File{hub, reopen(t, hub)} {
		if m, self := hub.Master(); self || m != branch.options.Self || hub.Refused() != nil {
			t.Errorf("hub takes %v for the master, itself: %v, refused: %v", m, self, hub.Refused())
		}
		var notMaster *NotMasterError
		if _, err := hub.Update(t.Context(), generation(t, hub), change(t, hub, "x")); !errors.As(err, &notMaster) || notMaster.Master != "branch" {
			t.Errorf("hub still changes the domain: %v", err)
		}
	}
	if got := string(readFile(t, hub.at(supersededName))); got != lonely {
		t.Error("what the old master had is not kept")
	}
	if m, self := reopen(t, branch).Master(); !self || m != branch.options.Self {
		t.Error("branch is no longer the master after a restart")
	}
}

// The master's disk is restored from a backup; a partner has what it signed
// since.
func TestAMasterFromABackupTakesItsOwnCopyBack(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	backup := map[string][]byte{yamlName: readFile(t, hub.at(yamlName)), copyName: readFile(t, hub.at(copyName))}
	branch := e.copyOf(t, hub, "branch", false)
	update(t, hub, "new")
	if _, err := branch.Accept(hub.Signed()); err != nil {
		t.Fatal(err)
	}
	for name, data := range backup {
		if err := os.WriteFile(hub.at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hub = reopen(t, hub)
	if changed, err := hub.Accept(branch.Signed()); err != nil || !changed || generation(t, hub) != 2 {
		t.Fatalf("hub takes back generation 2: %v, %v, is at %d", changed, err, generation(t, hub))
	}
	hub = reopen(t, hub)
	if _, self := hub.Master(); !self || generation(t, hub) != 2 || hub.Refused() != nil {
		t.Errorf("after a restart hub is master: %v, at %d, refused %v", self, generation(t, hub), hub.Refused())
	}
}

func TestTwoMastersAtOnceAreSeen(t *testing.T) {
	e := newDomain(t)
	hub := e.master(t)
	branch, lab := e.copyOf(t, hub, "branch", true), e.copyOf(t, hub, "lab", true)
	if err := errors.Join(branch.Promote(), lab.Promote()); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Accept(lab.Signed()); !errors.Is(err, ErrDiverged) {
		t.Errorf("two masters of one term: %v", err)
	}
	update(t, lab, "more")
	if _, err := branch.Accept(lab.Signed()); !errors.Is(err, ErrDiverged) {
		t.Errorf("two masters of one term, one further: %v", err)
	}
	if _, err := hub.Accept(lab.Signed()); err != nil {
		t.Fatal(err)
	}
	// The remedy: promote the right one once more.
	if err := hub.Promote(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*File{"branch": branch, "lab": lab} {
		if changed, err := f.Accept(hub.Signed()); err != nil || !changed {
			t.Errorf("%s does not follow the promoted master: %v, %v", name, changed, err)
		}
	}
}

// The master may be without the CA's key for a while: it replicates, and says
// why it cannot change the domain.
func TestAMasterWithoutTheKeyStarts(t *testing.T) {
	hub := newDomain(t).master(t)
	hub.options.Signer = nil
	hub = reopen(t, hub)
	if _, err := hub.Update(t.Context(), 1, change(t, hub, "new")); err == nil || !strings.Contains(err.Error(), "dfs ca import") {
		t.Errorf("update without the key: %v", err)
	}
	if generation(t, hub) != 1 {
		t.Error("the refused update changed the domain")
	}
	if err := os.Remove(hub.at(yamlName)); err != nil {
		t.Fatal(err)
	}
	if hub = reopen(t, hub); hub.Refused() == nil || generation(t, hub) != 1 {
		t.Errorf("without key and domain.yaml: %v at %d", hub.Refused(), generation(t, hub))
	}
}

var errCrash = errors.New("crash")

// Every change is cut off before each of its steps; what is found afterwards is
// the domain before or after it, whole, and the next change works.
func TestCrashesBetweenTheStepsOfAChange(t *testing.T) {
	e := newDomain(t)
	type scene struct {
		f *File
		// act makes the change.
		act func(f *File) error
		// before and after are the terms and generations that may be found.
		before, after [2]uint64
		// master of the domain, before and after
		masterBefore, masterAfter UUID
	}
	hubID, branchID := e.doc.Domain.ServerByName("hub").ID, e.doc.Domain.ServerByName("branch").ID
	scenes := map[string]func(t *testing.T) scene{
		"update": func(t *testing.T) scene {
			f := e.master(t)
			next := change(t, f, "new")
			return scene{f, func(f *File) error { _, err := f.Update(t.Context(), 1, next); return err }, [2]uint64{1, 1}, [2]uint64{1, 2}, hubID, hubID}
		},
		"accept": func(t *testing.T) scene {
			hub := e.master(t)
			f := e.copyOf(t, hub, "branch", false)
			update(t, hub, "new")
			return scene{f, func(f *File) error { _, err := f.Accept(hub.Signed()); return err }, [2]uint64{1, 1}, [2]uint64{1, 2}, hubID, hubID}
		},
		"promote": func(t *testing.T) scene {
			f := e.copyOf(t, e.master(t), "branch", true)
			return scene{f, (*File).Promote, [2]uint64{1, 1}, [2]uint64{2, 2}, hubID, branchID}
		},
		"end of mastership": func(t *testing.T) scene {
			f := e.master(t)
			branch := e.copyOf(t, f, "branch", true)
			if err := branch.Promote(); err != nil {
				t.Fatal(err)
			}
			return scene{f, func(f *File) error { _, err := f.Accept(branch.Signed()); return err }, [2]uint64{1, 1}, [2]uint64{2, 2}, hubID, branchID}
		},
	}
	for name, make := range scenes {
		t.Run(name, func(t *testing.T) {
			crashes := 0
			for stop := 0; ; stop++ {
				s := make(t)
				n, stopped := 0, ""
				s.f.disk.step = func(step string) error {
					if n++; n > stop {
						stopped = step
						return errCrash
					}
					return nil
				}
				err := s.act(s.f)
				if stopped == "" {
					if err != nil {
						t.Fatalf("the whole change: %v", err)
					}
					break
				}
				crashes++
				if !errors.Is(err, errCrash) {
					t.Errorf("before %q: error is %v", stopped, err)
				}
				f := reopen(t, s.f)
				d := load(t, f).Domain
				at := [2]uint64{d.Term, d.Generation}
				master, _ := f.Master()
				if !(at == s.before && master == s.masterBefore || at == s.after && master == s.masterAfter) {
					t.Errorf("before %q: at term and generation %v under %v, want %v or %v", stopped, at, master, s.before, s.after)
				}
				if f.Refused() != nil {
					t.Errorf("before %q: refused %v", stopped, f.Refused())
				}
				if err := s.act(f); err != nil {
					var conflict *ConflictError
					if !errors.As(err, &conflict) { // the crash came after the change
						t.Errorf("before %q: the change once more: %v", stopped, err)
					}
				}
				f = reopen(t, f)
				d = load(t, f).Domain
				if at := [2]uint64{d.Term, d.Generation}; at != s.after {
					t.Errorf("before %q: at last at %v, want %v", stopped, at, s.after)
				}
				if master, _ := f.Master(); master != s.masterAfter {
					t.Errorf("before %q: at last under %v, want %v", stopped, master, s.masterAfter)
				}
			}
			if crashes < 5 {
				t.Errorf("only %d steps were cut off", crashes)
			}
		})
	}
}

// A disk that is full is an error of the change, not a crash: the running
// member goes on with the domain that it had, and then changes it.
func TestAFailedChangeIsTriedAgain(t *testing.T) {
	hub := newDomain(t).master(t)
	for _, stop := range []string{"write " + yamlName, "rename " + yamlName, "write " + copyName, "rename " + copyName} {
		base := generation(t, hub)
		next := change(t, hub, "after-"+strings.ReplaceAll(stop, " ", "-"))
		hub.disk.step = func(step string) error {
			if step == stop {
				return fs.ErrInvalid
			}
			return nil
		}
		if _, err := hub.Update(t.Context(), base, next); !errors.Is(err, fs.ErrInvalid) {
			t.Fatalf("%s: error is %v", stop, err)
		}
		if generation(t, hub) != base {
			t.Errorf("%s: a change that failed is in use", stop)
		}
		hub.disk.step = nil
		if doc, err := hub.Update(t.Context(), base, next); err != nil || doc.Domain.Generation != base+1 {
			t.Errorf("%s: the change once more: %v", stop, err)
		}
		if !load(t, reopen(t, hub)).Domain.Equal(load(t, hub).Domain) {
			t.Errorf("%s: the disk has another domain", stop)
		}
	}
}
