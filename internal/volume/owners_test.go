package volume

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"opendfs/internal/repl"

	"golang.org/x/sys/unix"
)

// phoneBook is a name service of one server.
type phoneBook map[string]uint32

var errPhone = errors.New("the name service does not answer")

func (p phoneBook) name(id uint32) (string, bool, error) {
	if p == nil {
		return "", false, errPhone
	}
	for name, at := range p {
		if at == id {
			return name, true, nil
		}
	}
	return "", false, nil
}

func (p phoneBook) id(name string) (uint32, bool, error) {
	id, ok := p[name]
	return id, ok, nil
}

func (p phoneBook) User(id uint32) (string, bool, error)      { return p.name(id) }
func (p phoneBook) Group(id uint32) (string, bool, error)     { return p.name(id) }
func (p phoneBook) UserID(name string) (uint32, bool, error)  { return p.id(name) }
func (p phoneBook) GroupID(name string) (uint32, bool, error) { return p.id(name) }
func (p phoneBook) SIDUser(sid string) (uint32, bool, error)  { return p.id(sid) }
func (p phoneBook) SIDGroup(sid string) (uint32, bool, error) { return p.id(sid) }

// acl is the kernel's ACL of entries of tag, permissions, number.
func acl(entries ...[3]uint32) []byte {
	b := []byte{2, 0, 0, 0}
	for _, e := range entries {
		b = append(b, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
	}
	return b
}

// TestOwnersByName: owners and the ACLs' entries arrive at the same people with other numbers, in the order that the kernel wants.
func TestOwnersByName(t *testing.T) {
	here := &Disk{owners: OwnersByName, names: phoneBook{"ann": 1, "bob": 2, "staff": 9}}
	there := &Disk{owners: OwnersByName, names: phoneBook{"ann": 700, "bob": 600, "staff": 5}}
	all := [3]uint32{1, 6, aclNoID}
	rest := [][3]uint32{{4, 4, aclNoID}, {0x10, 7, aclNoID}, {0x20, 0, aclNoID}}
	m := Meta{Mode: 0o640, Owner: 1, Group: 9, Xattrs: []Xattr{{aclAccess, acl(append([][3]uint32{all, {2, 7, 1}, {2, 5, 2}, {2, 4, 77}}, rest...)...)}}}
	if err := here.outward(&m, repl.File); err != nil || m.OwnerName != "ann" || m.GroupName != "staff" || m.Owner != 0 || !isNamedACL(m.Xattrs[0].Value) {
		t.Fatalf("%+v, error %v", m, err)
	}
	wire := encode(t, m)
	m, err := DecodeMeta(wire)
	if err != nil {
		t.Fatal(err)
	}
	got, lacks, err := there.inward(m, &Stat{})
	want := acl(append([][3]uint32{all, {2, 4, 77}, {2, 5, 600}, {2, 7, 700}}, rest...)...)
	if err != nil || len(lacks) > 0 || got.Owner != 700 || got.Group != 5 || !bytes.Equal(got.Xattrs[0].Value, want) {
		t.Fatalf("there %+v, lacks %v, error %v", got, lacks, err)
	}
	if err := there.outward(&got, repl.File); err != nil || !bytes.Equal(encode(t, got), wire) {
		t.Fatalf("sent back it is %+v, error %v", got, err)
	}
	stranger := &Disk{owners: OwnersByName, names: phoneBook{"staff": 5}}
	got, lacks, err = stranger.inward(m, &Stat{Owner: 3})
	if err != nil || !slices.Equal(lacks, []string{lackOwner, lackXattr + aclAccess}) || got.Owner != 3 || got.Group != 5 || len(got.Xattrs) != 0 {
		t.Fatalf("a stranger has %+v, lacks %v, error %v", got, lacks, err)
	}
	if unknown := stranger.UnknownOwners(); !slices.Equal(unknown, []string{"ann"}) {
		t.Errorf("unknown are %v", unknown)
	}
	deaf := &Disk{owners: OwnersByName, names: phoneBook(nil)}
	if err := deaf.outward(&Meta{}, repl.File); !errors.Is(err, errPhone) {
		t.Errorf("without an answer the owner is a number: %v", err)
	}
}

// TestSetuidStays: nobody runs a file with the rights of another than its owner.
func TestSetuidStays(t *testing.T) {
	none := &Disk{owners: OwnersNone, names: phoneBook{}}
	m := Meta{Mode: 0o6755, Owner: 5, Group: 6}
	if err := none.outward(&m, repl.File); err != nil || m.Mode != 0o755 || !m.NoOwner {
		t.Errorf("%+v, error %v", m, err)
	}
	m = Meta{Mode: 0o6755}
	if lacks := m.humble(repl.File, []string{lackOwner, lackGroup}); m.Mode != 0o755 || !slices.Contains(lacks, lackMode) {
		t.Errorf("mode %o, lacks %v", m.Mode, lacks)
	}
	m = Meta{Mode: 0o2775}
	if lacks := m.humble(repl.Directory, []string{lackGroup}); m.Mode != 0o2775 || len(lacks) != 1 {
		t.Errorf("mode %o, lacks %v", m.Mode, lacks)
	}
}

// TestSystemNames asks this machine's own name service.
func TestSystemNames(t *testing.T) {
	var s System
	if name, ok, err := s.User(0); err != nil || !ok || name != "root" {
		t.Errorf("user 0 is %q, known %v, error %v", name, ok, err)
	}
	if id, ok, err := s.GroupID("root"); err != nil || !ok || id != 0 {
		t.Errorf("group root is %d, known %v, error %v", id, ok, err)
	}
	for _, name := range []string{"no such user here", "0", "-x", ""} {
		if id, ok, err := s.UserID(name); err != nil || ok {
			t.Errorf("user %q is %d, error %v", name, id, err)
		}
	}
	if _, ok, err := s.Group(4_000_000_001); err != nil || ok {
		t.Errorf("a number that nobody has is known, error %v", err)
	}
	if _, ok, err := lookUpNone(); err != nil || ok {
		t.Errorf("files: %v", err)
	}
}

// TestAHungNameHoldsUpNobodyElse: while the name service is silent about one user,
// others are known; those who ask for that one get one answer.
func TestAHungNameHoldsUpNobodyElse(t *testing.T) {
	dir := t.TempDir()
	asked, answer := filepath.Join(dir, "asked"), filepath.Join(dir, "answer")
	for _, pipe := range []string{asked, answer} {
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\n[ $3 = slow ] && { echo >" + asked + "; read line <" + answer + "; }\necho $3:x:$((1000 + ${#3})):\n"
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	var s System
	got := make(chan uint32)
	ask := func(name string) {
		id, _, err := s.UserID(name)
		if err != nil {
			t.Errorf("user %s: %v", name, err)
		}
		got <- id
	}
	go ask("slow")
	if _, err := os.ReadFile(asked); err != nil { // it is being asked for
		t.Fatal(err)
	}
	go ask("slow")
	go ask("quick")
	select {
	case id := <-got:
		if id != 1005 {
			t.Errorf("the first answer is %d", id)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody gets an answer while one is waited for")
	}
	if err := os.WriteFile(answer, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if id := <-got; id != 1004 {
			t.Errorf("the slow one is %d", id)
		}
	}
}

func lookUpNone() (answer, bool, error) {
	a, err := lookUpFiles("passwd", "no-such-user-here")
	return a, a.ok, err
}
