package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSetfacl: an ACL on every file costs its metadata: no file is read on either side, no content sent.
func TestSetfacl(t *testing.T) {
	c := newCluster(t, plan{size: 2 * gib})
	needRoot(t, "setfacl", "getfacl", "getfattr")
	const files = 3000
	run := setfacl(t, c, files, 1)
	if run.reads != 0 || run.content != 0 {
		t.Errorf("%d reads of files, %d bytes of content sent; both should be 0", run.reads, run.content)
	}
	if run.wire > 1.3*run.metadata {
		t.Errorf("%.0f bytes on the wire for %.0f bytes of metadata", run.wire, run.metadata)
	}
	c.converged()
	equalMetadata(t, c.members[0].root, c.members[1].root)
}

// TestBenchSetfacl is the row of an ACL on 100,000 files, beside rsync's of the same
// change: how long after setfacl has ended all is there, and with setfacl itself,
// which shares the two cores with both members while rsync has not begun.
func TestBenchSetfacl(t *testing.T) {
	benchmark(t, "setfacl")
	needRoot(t, "rsync", "losetup", "ip", "setfacl")
	const files = 100_000
	c := newCluster(t, plan{size: benchImage})
	first := setfacl(t, c, files, 1)
	runs := []setfaclRun{first}
	for user := 2; user <= benchRuns; user++ {
		runs = append(runs, changeACLs(t, c, files, user))
	}
	c.converged()
	equalMetadata(t, c.members[0].root, c.members[1].root)
	alone, theirs := rsyncSetfacl(t, files)
	column := func(of func(setfaclRun) float64) []float64 {
		var out []float64
		for _, r := range runs {
			out = append(out, of(r))
		}
		return out
	}
	seconds := column(func(r setfaclRun) float64 { return r.seconds })
	wire := column(func(r setfaclRun) float64 { return r.wire / r.metadata })
	reads := column(func(r setfaclRun) float64 { return float64(r.reads) + float64(r.content) })
	read := column(func(r setfaclRun) float64 { return r.read / 1e6 })
	lag := column(func(r setfaclRun) float64 { return r.seconds - r.change })
	l, w := median(lag), median(wire)
	figures.add(t, figure{Row: "setfacl", What: fmt.Sprintf("%d files, after setfacl ended", files), Unit: "s", Ours: l, Runs: lag}.
		beside("rsync -aAX; sync", median(alone)).bar("faster", l < median(alone)))
	figures.add(t, figure{Row: "setfacl", What: "the same, setfacl included", Unit: "s", Ours: median(seconds), Runs: seconds}.
		beside("setfacl; rsync -aAX; sync", median(theirs)))
	figures.add(t, figure{Row: "setfacl", What: "sent, per byte of encoded metadata", Unit: "x", Ours: w, Runs: wire}.bar("at most 1.3", w <= 1.3))
	figures.add(t, figure{Row: "setfacl", What: "reads of files and bytes of content", Unit: "", Ours: median(reads), Runs: reads}.bar("0", median(reads) == 0))
	figures.add(t, figure{Row: "setfacl", What: "read by both daemons (rchar): sockets and database", Unit: "MB", Ours: median(read), Runs: read})
}

// setfaclRun is what one change of all ACLs cost.
type setfaclRun struct {
	seconds  float64
	wire     float64    // bytes sent by the one that changed
	metadata float64    // bytes of the canonical metadata of all files
	reads    int64      // of regular files, on both filesystems
	content  uint64     // bytes of content served
	read     float64    // rchar of both daemons
	change   float64    // seconds that setfacl itself ran
	cpu      [2]float64 // seconds of processor of each daemon
}

// setfacl fills the tree, brings it over and changes all ACLs once.
func setfacl(t *testing.T, c *cluster, files, user int) setfaclRun {
	t.Helper()
	fill{files: files, perDir: 500, bytes: 1000, seed: 2}.make(t, c.members[0].root)
	c.apply()
	c.wait(5 * time.Minute)
	return changeACLs(t, c, files, user)
}

func changeACLs(t *testing.T, c *cluster, files, user int) setfaclRun {
	t.Helper()
	a, b := c.members[0], c.members[1]
	var before, after setfaclRun
	sample := func(r *setfaclRun) {
		r.wire = a.host.sentBytes()
		r.content = a.folder().ServedBytes + b.folder().ServedBytes
		r.read = a.rchar() + b.rchar()
		r.cpu = [2]float64{a.cpu(), b.cpu()}
	}
	must(t, "sync")
	reads := []*readCount{countReads(t, a.root), countReads(t, b.root)}
	sample(&before)
	after.seconds = timed(func() {
		after.change = timed(func() { giveACL(t, a.root, user) })
		c.wait(5 * time.Minute)
	})
	sample(&after)
	for _, r := range reads {
		after.reads += r.events.Load()
	}
	after.wire -= before.wire
	after.content -= before.content
	after.read -= before.read
	after.cpu = [2]float64{after.cpu[0] - before.cpu[0], after.cpu[1] - before.cpu[1]}
	// Format: version, mode, owner, group, and the ACL of six entries.
	const head, acl = 1 + 4 + 6 + 6, 4 + 6*8
	const attribute = 1 + 1 + 1 + len("system.posix_acl_access") + acl
	after.metadata = float64(files * (head + attribute))
	t.Logf("%d files: %.2f s, of which setfacl ran %.2f; processor of the daemons %.2f + %.2f s; %.0f bytes sent for %.0f of metadata, %d reads, %d bytes of content",
		files, after.seconds, after.change, after.cpu[0], after.cpu[1], after.wire, after.metadata, after.reads, after.content)
	return after
}

// giveACL gives every file two more entries and a mask.
func giveACL(t testing.TB, root string, user int) {
	t.Helper()
	must(t, "sh", "-c", fmt.Sprintf(`find "$1" -path "$1/.dfsr" -prune -o -type f -print0 | xargs -0 setfacl -m u:%d:rw,g:%d:r`, 1000+user, 2000+user), "sh", root)
}

// rsyncSetfacl is the peer: the same change, carried over by rsync; how long that
// takes alone, and with setfacl.
func rsyncSetfacl(t *testing.T, files int) (alone, both []float64) {
	p := newPair(t, benchImage)
	fill{files: files, perDir: 500, bytes: 1000, seed: 2}.make(t, p.a.point)
	p.rsyncDaemon()
	p.rsync("-AX")
	for user := range benchRuns {
		must(t, "sync")
		change := timed(func() { giveACL(t, p.a.point, user+1) })
		carry := p.rsync("-AX")
		alone, both = append(alone, carry), append(both, change+carry)
	}
	if said, err := try("rsync", "-naAX", "-i", "--exclude=/lost+found", p.a.point+"/", p.b.point+"/"); err != nil || said != "" {
		t.Errorf("rsync left a difference: %s, error %v", shorten(said, 5), err)
	}
	return alone, both
}

// rchar is how many bytes the daemon has read, sockets included.
func (m *member) rchar() float64 {
	m.t.Helper()
	pid := m.status().PID
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "io"))
	if err != nil {
		m.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("rchar: "))
	n, err := strconv.ParseFloat(strings.Fields(string(rest))[0], 64)
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}
