package e2e

import (
	"os"
	"slices"
	"testing"
)

// TestInsertTravelsAlone: of a file of 64 MB that grows by a few bytes at its head hardly more than those bytes travels, whether the side that
// changed it has signed the old version or has to be asked; so of bytes in its middle and of blocks overwritten, on filesystems that share
// blocks too.
func TestInsertTravelsAlone(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) { insertTravelsAlone(t, kind) })
	}
}

func insertTravelsAlone(t *testing.T, kind string) {
	c := newCluster(t, plan{kind: kind})
	a, b := c.members[0], c.members[1]
	rng := random(64, "insert")
	data := make([]byte, 64_000_000)
	scribble(rng, data)
	if err := os.WriteFile(a.path("large"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	c.apply()
	c.wait(patience)
	c.converged()
	var saved uint64
	edit := func(what string, on *member, most int64, change func()) {
		t.Helper()
		change()
		before := b.host.wireBytes()
		if err := os.WriteFile(on.path("large"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		c.wait(patience)
		wire := b.host.wireBytes() - before
		c.converged()
		t.Logf("%s: %d bytes on the wire, both ways", what, wire)
		if wire > most {
			t.Errorf("%s: %d bytes on the wire; at most %d should be", what, wire, most)
		}
		saved += uint64(len(data)) - 300_000
		if f, g := a.folder(), b.folder(); f.RdcSavedBytes+g.RdcSavedBytes < saved {
			t.Errorf("%s: the status tells of %d and %d bytes saved; it should be %d", what, f.RdcSavedBytes, g.RdcSavedBytes, saved)
		}
	}
	fresh := func(n int) []byte {
		p := make([]byte, n)
		scribble(rng, p)
		return p
	}
	edit("1 byte at the head", a, 300_000, func() { data = slices.Insert(data, 0, 'x') })
	edit("1,000 bytes in the middle", a, 300_000, func() { data = slices.Insert(data, len(data)/2, fresh(1000)...) })
	edit("1,000 bytes at the head, on the other side", b, 300_000, func() { data = slices.Insert(data, 0, fresh(1000)...) })
	edit("a block overwritten", a, 300_000, func() { copy(data[20_000_000:], fresh(4096)) })
	c.calm()
}

// TestCutTransferGoesOn: the daemon that sends a large file is killed in the middle; when it is back the rest is sent, and not what had come.
func TestCutTransferGoesOn(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	data := make([]byte, 150_000_000)
	scribble(random(65, "cut"), data)
	b.host.shape("400mbit")
	before := b.host.wireBytes()
	if err := os.WriteFile(a.path("large"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "half of the file has come", func() bool { return b.host.wireBytes()-before > 90_000_000 })
	a.kill()
	a.start()
	c.wait(patience)
	c.converged()
	wire := b.host.wireBytes() - before
	t.Logf("%d bytes on the wire for a file of %d that was cut after 90,000,000", wire, len(data))
	if wire > 200_000_000 {
		t.Errorf("what had come was sent again: %d bytes on the wire", wire)
	}
}

// TestKilledReceiverGoesOn: the daemon that receives a large file is killed in the middle, once while all of it is new and once while half of it
// is; when it is back only the rest is sent.
func TestKilledReceiverGoesOn(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	data := make([]byte, 150_000_000)
	rng := random(66, "killed")
	scribble(rng, data)
	b.host.shape("400mbit")
	for _, step := range []struct {
		what      string
		new       int64 // bytes
		kill, cap int64
	}{
		{"a new file", 150_000_000, 90_000_000, 175_000_000},
		{"a file of which half is new", 75_000_000, 45_000_000, 95_000_000},
	} {
		before := b.host.wireBytes()
		scribble(rng, data[:step.new])
		if err := os.WriteFile(a.path("large"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "most of what is new has come", func() bool { return b.host.wireBytes()-before > step.kill })
		b.kill()
		b.start()
		c.wait(patience)
		c.converged()
		wire := b.host.wireBytes() - before
		t.Logf("%s: %d bytes on the wire for %d new ones, cut after %d", step.what, wire, step.new, step.kill)
		if wire > step.cap {
			t.Errorf("%s: what had come was sent again: %d bytes on the wire", step.what, wire)
		}
	}
	c.calm()
}
