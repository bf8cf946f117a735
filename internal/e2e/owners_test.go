package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// people gives a host users and groups of its own: what lies in /etc/netns/NAME lies over /etc for the host's programs.
func (h *host) people(text string) {
	h.net.t.Helper()
	users, groups := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
	for line := range strings.Lines(text) {
		var name string
		var id int
		if _, err := fmt.Sscanf(line, "%s %d", &name, &id); err != nil {
			continue
		}
		users += fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", name, id, id)
		groups += fmt.Sprintf("%s:x:%d:\n", name, id)
	}
	h.lay("passwd", users)
	h.lay("group", groups)
}

func ownerOf(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid), nil
}

// TestOwnersByName: on servers that number their people differently everybody keeps what is theirs; who is unknown is carried and set when known.
func TestOwnersByName(t *testing.T) {
	c := newCluster(t, plan{options: "owners: name", family: byName})
	needRoot(t, "getent", "getfacl", "setfacl")
	a, b := c.members[0], c.members[1]
	c.stop()
	a.host.people("ann 1001\nbob 1002\nstaff 1500")
	b.host.people("ann 2001\nstaff 2500")
	c.start()
	owns := func(path, want string) {
		t.Helper()
		if got, err := ownerOf(path); got != want {
			t.Errorf("%s belongs to %s, it should to %s; error %v", path, got, want, err)
		}
	}
	for name, ids := range map[string][2]int{"anns": {1001, 1500}, "bobs": {1002, 1500}, "nobodys": {7777, 1500}} {
		if err := os.WriteFile(a.path(name), []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(a.path(name), ids[0], ids[1]); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "setfacl", "-m", "u:1001:rwx,g:1500:r,u:7777:r", a.path("nobodys"))
	c.apply()
	c.wait(patience)
	owns(b.path("anns"), "2001:2500")
	owns(b.path("nobodys"), "7777:2500")
	owns(b.path("bobs"), "0:2500")
	if acl := must(t, "getfacl", "-n", "-c", b.path("nobodys")); !strings.Contains(acl, "user:2001:rwx") || !strings.Contains(acl, "group:2500:r--") || !strings.Contains(acl, "user:7777:r--") {
		t.Errorf("the ACL there is\n%s", acl)
	}
	if f := b.finds("unknown-owner", 5*time.Second); !strings.Contains(f.Detail, "bob") || strings.Contains(f.Detail, "ann") {
		t.Errorf("finding %+v", f)
	}
	b.finds("metadata-carried", 5*time.Second)

	// An edit there leaves the owner that is not known there alone.
	f, err := os.OpenFile(b.path("bobs"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(", edited")
	f.Close()
	if err := os.Chown(b.path("nobodys"), 2001, -1); err != nil {
		t.Fatal(err)
	}
	c.wait(patience)
	owns(a.path("bobs"), "1002:1500")
	owns(a.path("nobodys"), "1001:1500")
	if text, err := os.ReadFile(a.path("bobs")); string(text) != "bobs, edited" {
		t.Errorf("the edit did not arrive: %q, error %v", text, err)
	}
	c.equalVectors()

	b.host.people("ann 2001\nbob 2002\nstaff 2500")
	b.clears("unknown-owner", patience)
	b.clears("metadata-carried", patience)
	owns(b.path("bobs"), "2002:2500")
	before := c.vectors()
	c.wait(patience)
	if after := c.vectors(); before[0] != after[0] || before[1] != after[1] {
		t.Errorf("setting the owner minted: %v before, %v after", before, after)
	}
}
