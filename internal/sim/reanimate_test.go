package sim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"opendfs/internal/repl"
)

// Who deletes a file and makes it again has edited it: the object keeps its
// identity, so an edit made elsewhere meanwhile is another version of it and not
// another file, and no name is fought for. A tombstone older than its life, one of
// another type and one that lost its name stay dead.
func TestANameMadeAgainIsTheSameFile(t *testing.T) {
	c, m0, m1, must := pair(t, 3)
	m0.cfg.TombstoneLifetime, m1.cfg.TombstoneLifetime = time.Hour, time.Hour
	record := func(name string) repl.Record {
		t.Helper()
		r, ok, err := m0.env.Store.At(repl.RootUID(folderID), name)
		if err != nil || !ok {
			t.Fatalf("no record of %s: %v\n%s", name, err, c.Picture())
		}
		return r
	}
	must(m0.Start())
	must(m1.Start())
	must(errors.Join(c.userWrite(m0, "a"), m0.disk.User().Mkdir("d"), c.userWrite(m0, "d/a")))
	must(c.Rest())
	file, dir := record("a"), record("d")

	c.toggle(0, 1)
	must(c.userRemove(m0, "a"))
	must(c.settle())
	must(c.userWrite(m0, "a"))
	must(c.settle())
	must(c.userWrite(m1, "a"))
	must(c.settle())
	c.toggle(0, 1)
	must(c.Rest())
	if r := record("a"); r.UID != file.UID || r.CreateTime != file.CreateTime {
		t.Errorf("made again it is %v, was %v", r.UID, file.UID)
	}
	kept := 0
	for _, m := range c.members {
		for _, u := range allUpdates(m.env.Store) {
			if u.NameConflict {
				t.Errorf("a name was fought for: %s", c.describe(&u))
			}
		}
		kept += int(m.folder.Status().Stats.Kept)
	}
	if kept == 0 {
		t.Error("the version that lost was not kept")
	}

	// A directory comes back with what is made in it again.
	in, _, err := m0.env.Store.At(dir.UID, "a")
	must(err)
	must(c.userRemoveAll(m0, "d"))
	must(c.Rest())
	must(errors.Join(m1.disk.User().Mkdir("d"), c.userWrite(m1, "d/a")))
	must(c.Rest())
	if again, ok, err := m0.env.Store.At(dir.UID, "a"); err != nil || !ok || again.UID != in.UID || record("d").UID != dir.UID {
		t.Errorf("the directory or the file in it is another one: %v, %v, %v", record("d").UID, ok, err)
	}

	// Another type is another object, and so is what died too long ago.
	must(c.userRemove(m0, "a"))
	must(c.settle())
	must(m0.disk.User().Mkdir("a"))
	must(c.Rest())
	if record("a").UID == file.UID {
		t.Error("a directory has the identity of a file")
	}
	must(m0.disk.User().Remove("a"))
	must(c.settle())
	c.pass(2 * time.Hour)
	must(c.userWrite(m0, "a"))
	must(c.Rest())
	if record("a").UID == file.UID {
		t.Error("a file came back after its tombstone's life")
	}
}

// What lost its name never comes back under it.
func TestANamesLoserStaysDead(t *testing.T) {
	c, m0, m1, must := pair(t, 4)
	must(m0.Start())
	must(m1.Start())
	must(c.Rest())
	c.toggle(0, 1)
	must(errors.Join(c.userWrite(m0, "a"), c.userWrite(m1, "a")))
	must(c.settle())
	c.toggle(0, 1)
	must(c.Rest())
	must(c.userRemove(m0, "a"))
	must(c.Rest())
	must(c.userWrite(m0, "a"))
	must(c.Rest())
	live := 0
	for _, u := range allUpdates(m0.env.Store) {
		if u.NameConflict && u.Present {
			must(fmt.Errorf("%s", c.describe(&u)))
		}
		if u.Present && u.Name == "a" {
			live++
		}
	}
	if live != 1 {
		t.Errorf("%d objects are called a", live)
	}
}
