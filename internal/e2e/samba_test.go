package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSamba: what Windows clients give to files through one server's smbd they find through the other's.
func TestSamba(t *testing.T) {
	c := newCluster(t, plan{})
	needRoot(t, "getfattr", "getfacl")
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	here, there := newSamba(t, a), newSamba(t, b)
	here.client(`mkdir reports`)
	here.put(`reports\plan.txt`, "the plan")
	here.put(`reports\plan.txt:notes`, "an alternate stream")
	here.put(`reports\hidden.txt`, "hidden")
	here.client(`setmode "reports\hidden.txt" +hsr`)
	here.acl(`reports\plan.txt`, "-a", "ACL:S-1-5-11:0/0x0/0x001200a9")
	here.acl(`reports`, "-a", "ACL:S-1-5-11:0/0x3/0x001301bf")
	c.wait(patience)
	c.converged()
	equalMetadata(t, a.root, b.root)
	for _, file := range []string{`reports\plan.txt`, `reports\hidden.txt`, "reports"} {
		if x, y := here.acl(file), there.acl(file); x != y || !strings.Contains(x, "ACL:") {
			t.Errorf("the ACL of %s is\n%s\nthere\n%s", file, x, y)
		}
	}
	if x := there.acl(`reports\plan.txt`); !strings.Contains(x, "S-1-5-11:0/0x0/0x001200a9") {
		t.Errorf("the ACL of the plan lacks what was given:\n%s", x)
	}
	if text := there.get(`reports\plan.txt:notes`); text != "an alternate stream" {
		t.Errorf("the stream holds %q there", text)
	}
	if x, y := attributesOf(here.client(`allinfo "reports\hidden.txt"`)), attributesOf(there.client(`allinfo "reports\hidden.txt"`)); x != y || !strings.Contains(x, "RHS") {
		t.Errorf("attributes %q here, %q there", x, y)
	}

	// And back: a change of each kind through the other server, and no content for it.
	sent := a.folder().ServedBytes + b.folder().ServedBytes
	there.put(`reports\plan.txt:notes`, "another text")
	there.client(`setmode "reports\hidden.txt" -h`)
	there.acl(`reports\plan.txt`, "-D", "ACL:S-1-5-11:0/0x0/0x001200a9")
	there.client(`rename reports\plan.txt reports\Plan.txt`)
	c.wait(patience)
	c.converged()
	equalMetadata(t, a.root, b.root)
	if text := here.get(`reports\Plan.txt:notes`); text != "another text" {
		t.Errorf("the stream holds %q here", text)
	}
	if x := here.acl(`reports\Plan.txt`); strings.Contains(x, "S-1-5-11:0/0x0/0x001200a9") || x != there.acl(`reports\Plan.txt`) {
		t.Errorf("the ACL here is\n%s", x)
	}
	if x := attributesOf(here.client(`allinfo "reports\hidden.txt"`)); strings.Contains(x, "H") || !strings.Contains(x, "S") {
		t.Errorf("attributes %q", x)
	}
	if now := a.folder().ServedBytes + b.folder().ServedBytes; now != sent {
		t.Errorf("%d bytes of content were sent for metadata", now-sent)
	}
	there.client(`setmode "reports\hidden.txt" -rs; del "reports\hidden.txt"`)
	c.wait(patience)
	c.converged()
	if _, err := os.Stat(a.path("reports", "hidden.txt")); err == nil {
		t.Error("what was deleted there is still here")
	}
	c.calm()
}

// attributesOf are the letters of the DOS attributes that smbclient's allinfo says.
func attributesOf(info string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "attributes:"); ok {
			value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
			return value
		}
	}
	return ""
}

// TestSambaHolds: a file that a Windows client has open for writing is not replaced under it, and nothing that either side saved is lost.
func TestSambaHolds(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	if err := os.WriteFile(a.path("held.txt"), []byte("first"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.apply()
	c.wait(patience)
	there := newSamba(t, b)
	write := there.hold("held.txt")
	write("the client's ")
	eventually(t, 10*time.Second, "the client has the file open", func() bool {
		text, err := os.ReadFile(b.path("held.txt"))
		return err == nil && string(text) != "first"
	})
	c.otherSideWaits()
	if text, err := os.ReadFile(b.path("held.txt")); err != nil || strings.Contains(string(text), "other") {
		t.Errorf("under its writer the file holds %q, error %v", text, err)
	}
	write("version")
	write("")
	c.bothKept("the client's version")
}

// otherSideWaits saves another version of the held file on the first member, and sees it wait on the second.
func (c *cluster) otherSideWaits() {
	c.t.Helper()
	a, b := c.members[0], c.members[1]
	if err := os.WriteFile(a.path("held.txt"), []byte("the other side's"), 0o666); err != nil {
		c.t.Fatal(err)
	}
	if f := b.finds("install-waits-open-file", 20*time.Second); !strings.Contains(f.Object, "held.txt") {
		c.t.Errorf("finding %+v", f)
	}
}

// bothKept sees that what the client saved and what the other side did are live or kept, and that nothing waits any more.
func (c *cluster) bothKept(client string) {
	c.t.Helper()
	a, b := c.members[0], c.members[1]
	c.wait(patience)
	c.converged()
	have := contents(c.t, a.root, b.root)
	for _, text := range []string{client, "the other side's"} {
		if !have[text] {
			c.t.Errorf("%q is neither live nor kept: %v", text, have)
		}
	}
	b.clears("install-waits-open-file", patience)
}

// TestSambaOplock: a client that holds a batch oplock writes before and after the other side's version came. The file is not replaced under it,
// what it reads is its own, and what either side saved is live or kept.
func TestSambaOplock(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	if err := os.WriteFile(a.path("held.txt"), []byte("first"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.apply()
	c.wait(patience)
	say := newSamba(t, b).holder("held.txt")
	say("write the client's ")
	c.otherSideWaits()
	say("write version, ")
	if text := say("read"); text != "the client's version, " {
		t.Errorf("the client reads %q", text)
	}
	say("write to its end")
	say("close")
	c.bothKept("the client's version, to its end")
}

// TestSambaOtherNumbers: two servers that map one SID to other numbers. With owners by name the POSIX side is each server's own, so Samba does not
// believe the NT ACL's hash on the other one: a finding says so and what to configure, and with that the ACL is the same on both.
func TestSambaOtherNumbers(t *testing.T) {
	c := newCluster(t, plan{options: "owners: name", family: byName})
	needRoot(t, "getfacl", "net")
	a, b := c.members[0], c.members[1]
	const users = "S-1-5-32-545"
	c.stop()
	a.host.people("staff 5001")
	b.host.people("staff 6001")
	c.start()
	c.apply()
	c.wait(patience)
	here, there := newSamba(t, a), newSamba(t, b)
	for _, s := range []*samba{here, there} {
		s.maps(users, "staff")
	}
	here.put("plan.txt", "the plan")
	const given = "ACL:" + users + ":0/0x0/0x0012008f" // no set of POSIX permissions says this
	here.acl("plan.txt", "-a", given)
	c.wait(patience)
	for root, group := range map[string]string{a.root: "group:5001:", b.root: "group:6001:"} {
		if acl := must(t, "getfacl", "-n", "-c", filepath.Join(root, "plan.txt")); !strings.Contains(acl, group) {
			t.Errorf("the POSIX ACL in %s lacks %s:\n%s", root, group, acl)
		}
	}
	if x := here.acl("plan.txt"); !strings.Contains(x, given) {
		t.Errorf("the ACL here lacks what was given:\n%s", x)
	}
	if x := there.acl("plan.txt"); strings.Contains(x, given) {
		t.Errorf("Samba believes the NT ACL without being told to:\n%s", x)
	}
	if f := b.finds("nt-acl-doubted", 20*time.Second); !strings.Contains(f.Remedy, "ignore system acls") {
		t.Errorf("finding %+v", f)
	}
	if said := a.must("status"); strings.Contains(said, "nt-acl-doubted") {
		t.Errorf("where the ACL was set nothing is wrong:\n%s", said)
	}

	here.stop()
	there.stop()
	const believe = "acl_xattr:ignore system acls = yes"
	here, there = newSamba(t, a, believe), newSamba(t, b, believe)
	for _, s := range []*samba{here, there} {
		s.maps(users, "staff")
	}
	if x, y := aces(here.acl("plan.txt")), aces(there.acl("plan.txt")); x != y || !strings.Contains(x, given) {
		t.Errorf("the ACL is\n%s\nthere\n%s", x, y)
	}
	there.acl("plan.txt", "-D", given)
	c.wait(patience)
	if x, y := aces(here.acl("plan.txt")), aces(there.acl("plan.txt")); x != y || strings.Contains(x, given) {
		t.Errorf("changed there, the ACL here is\n%s\nthere\n%s", x, y)
	}
	equalNTACLs(t, a.root, b.root)
}

// aces are the entries of an ACL as smbcacls says it.
func aces(acl string) string {
	var out []string
	for line := range strings.Lines(acl) {
		if strings.HasPrefix(line, "ACL:") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// equalNTACLs compares the NT ACLs of two trees, byte for byte.
func equalNTACLs(t testing.TB, a, b string) {
	t.Helper()
	dump := func(root string) string {
		all := blocks(must(t, "sh", "-c", `cd "$1" && getfattr -R -P -h -d -m '^security\.NTACL$' -e hex .`, "sh", root))
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	if x, y := dump(a), dump(b); x != y || !strings.Contains(x, "security.NTACL=0x") {
		t.Errorf("NT ACLs\n%s\nthere\n%s", x, y)
	}
}
