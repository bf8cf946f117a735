package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestWinbind: two file servers of one Active Directory domain. Under the same numbers all that users give to files on one they find on the other,
// and who is refused here is refused there. Under other numbers a folder that replicates numbers gives files to nobody or to somebody else, and a
// finding says so; by names, with the share's option that makes the NT ACL the only word, all is equal again.
func TestWinbind(t *testing.T) {
	const (
		anna    = `CORP\anna%Passw0rd.anna`
		bob     = `CORP\bob%Passw0rd.bob`
		odd     = `ACL:CORP\bob:ALLOWED/0x0/0x0012008f` // no set of POSIX permissions says this
		believe = "acl_xattr:ignore system acls = yes"
	)
	needRoot(t, "getfattr", "getfacl")
	c := newCluster(t, plan{family: byName})
	ad, dc := newCorp(t, c)
	for _, name := range []string{"anna", "bob"} { // in this order: their numbers follow from it
		if err := dc.AddUser(name, "Passw0rd."+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := dc.AddGroup("writers", "bob"); err != nil {
		t.Fatal(err)
	}
	a, b := c.members[0], c.members[1]
	c.stop()
	here, there := ad.join(a), ad.join(b)
	if err := os.Chmod(a.root, 0o777); err != nil {
		t.Fatal(err)
	}
	here.serve(domainNumbers)
	there.serve(domainNumbers)
	c.start()
	c.apply()
	c.wait(patience)

	// gives has anna give a directory all that a Windows user gives.
	gives := func(dir string) {
		t.Helper()
		s := here.as(anna)
		s.client("mkdir " + dir)
		s.acl(dir, "-a", `ACL:CORP\anna:ALLOWED/OI|CI/FULL`)
		s.acl(dir, "-a", `ACL:CORP\writers:ALLOWED/OI|CI/CHANGE`)
		s.put(dir+`\plan.txt`, "the plan")
		s.put(dir+`\plan.txt:notes`, "an alternate stream")
		s.put(dir+`\shared.txt`, "shared")
		s.put(dir+`\secret.txt`, "not for bob")
		s.acl(dir+`\secret.txt`, "-a", `ACL:CORP\bob:DENIED/0x0/FULL`)
		s.client(`setmode "` + dir + `\plan.txt" +hs`)
		c.wait(patience)
	}
	refused := func(s *samba, script string) {
		t.Helper()
		if out, err := s.try(script); err == nil && !strings.Contains(out, "NT_STATUS_ACCESS_DENIED") {
			t.Errorf("%s may %q on %s:\n%s", s.user, script, s.m.name, out)
		}
	}
	// same sees through the other server what was given.
	same := func(dir string) {
		t.Helper()
		for _, file := range []string{dir, dir + `\plan.txt`, dir + `\secret.txt`} {
			if x, y := here.as(anna).acl(file), there.as(anna).acl(file); x != y || !strings.Contains(x, "ACL:") {
				t.Errorf("the ACL of %s is\n%s\nthere\n%s", file, x, y)
			}
		}
		equalNTACLs(t, a.root, b.root)
		info := `allinfo "` + dir + `\plan.txt"`
		if x, y := attributesOf(here.as(anna).client(info)), attributesOf(there.as(anna).client(info)); x != y || !strings.Contains(x, "HS") {
			t.Errorf("attributes %q here, %q there", x, y)
		}
		if text := there.as(anna).get(dir + `\plan.txt:notes`); text != "an alternate stream" {
			t.Errorf("the stream holds %q there", text)
		}
		for _, s := range []*samba{here, there} {
			if text := s.as(bob).get(dir + `\plan.txt`); text != "the plan" {
				t.Errorf("bob reads %q on %s", text, s.m.name)
			}
			refused(s.as(bob), `get `+dir+`\secret.txt -`)
		}
	}
	gives("same")
	c.converged()
	equalMetadata(t, a.root, b.root)
	same("same")
	c.calm()
	there.as(bob).put(`same\shared.txt`, "bob's plan")
	there.as(anna).acl(`same\secret.txt`, "-D", `ACL:CORP\bob:DENIED/0x0/FULL`)
	c.wait(patience)
	if text := here.as(bob).get(`same\shared.txt`); text != "bob's plan" {
		t.Errorf("the plan holds %q", text)
	}
	if text := here.as(bob).get(`same\secret.txt`); text != "not for bob" {
		t.Errorf("not refused any more, bob reads %q", text)
	}

	// Other numbers there.
	b.stop()
	there.serve(otherNumbers)
	b.start()
	c.wait(patience)
	gives("numbers")
	for _, file := range []string{"numbers", `numbers\secret.txt`} {
		if x, y := here.as(anna).acl(file), there.as(anna).acl(file); x != y {
			t.Errorf("the ACL of %s is\n%s\nthere\n%s", file, x, y)
		}
	}
	refused(there.as(bob), `get numbers\secret.txt -`)
	refused(there.as(anna), `put /etc/hostname numbers\shared.txt`) // it is hers, and her number's no more
	if f := b.finds("owner-numbers-differ", 20*time.Second); !strings.Contains(f.Remedy, "owners: name") || !strings.Contains(f.Detail, "is 50") {
		t.Errorf("finding %+v", f)
	}
	if len(a.findings("owner-numbers-differ")) > 0 {
		t.Error("where the numbers are right nothing is wrong")
	}

	// What the finding recommends.
	c.plan.options = "owners: name"
	c.apply()
	c.wait(patience)
	must(t, "find", a.root, "-path", a.private(), "-prune", "-o", "!", "-type", "l", "-exec", "chmod", "u+", "{}", "+")
	sent := a.folder().ServedBytes
	c.wait(patience)
	b.clears("owner-numbers-differ", 20*time.Second)
	for _, name := range []string{"", "plan.txt", "secret.txt"} {
		if is, err := ownerOf(b.path("numbers", name)); is != "501103:500513" {
			t.Errorf("there numbers/%s belongs to %s, error %v", name, is, err)
		}
	}
	if now := a.folder().ServedBytes; now != sent {
		t.Errorf("%d bytes of content were sent for owners", now-sent)
	}
	there.as(anna).put(`numbers\shared.txt`, "hers again")

	// By name Samba believes the NT ACL under other numbers, because the domain's SIDs are the same; and where it is told to, it asks for nothing else.
	for dir, options := range map[string][]string{"named": nil, "believed": {believe}} {
		c.stop() // who asks while winbindd is away hears that nobody is known
		here.serve(domainNumbers, options...)
		there.serve(otherNumbers, options...)
		c.start()
		c.wait(patience)
		gives(dir)
		file := dir + `\shared.txt`
		here.as(anna).acl(file, "-a", odd)
		c.wait(patience)
		same(dir)
		for _, old := range []string{"same", "numbers", dir, file} {
			if x, y := here.as(anna).acl(old), there.as(anna).acl(old); x != y {
				t.Errorf("the ACL of %s is\n%s\nthere\n%s", old, x, y)
			}
		}
		if x := there.as(anna).acl(file); !strings.Contains(x, "0/0x0/0x0012008f") {
			t.Errorf("the ACL of %s lacks what was given:\n%s", file, x)
		}
		if is, err := ownerOf(b.path(dir, "plan.txt")); is != "501103:500513" {
			t.Errorf("there %s/plan.txt belongs to %s, error %v", dir, is, err)
		}
	}
	c.calm()
}
