package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wireOf is how many bytes the second member's link carries, both ways, until a change has arrived.
func wireOf(c *cluster, change func()) int64 {
	c.t.Helper()
	h := c.members[1].host
	before := h.wireBytes()
	change()
	c.wait(10 * time.Minute)
	return h.wireBytes() - before
}

// TestBenchHead is the row of one byte at the head of a large file.
func TestBenchHead(t *testing.T) {
	benchmark(t, "rdc-head")
	size := deltaSize(t)
	c := newCluster(t, plan{size: 3*size + gib})
	a := c.members[0]
	writeLarge(t, a.path("large"), size)
	c.apply()
	c.wait(10 * time.Minute)
	aside := filepath.Join(c.trees[0].point, "aside")
	must(t, "sh", "-c", fmt.Sprintf("printf x | cat - %s > %s && sync", a.path("large"), aside))
	wire := wireOf(c, func() {
		if err := os.Rename(aside, a.path("large")); err != nil {
			t.Fatal(err)
		}
	})
	c.converged()
	figures.add(t, figure{Row: "rdc-head", What: fmt.Sprintf("1 byte before %d, on the wire both ways", size), Unit: "kB", Ours: float64(wire) / 1e3}.
		bar("less than 65.5 kB", wire < 64<<10))
}

// TestBenchShared is the row of overwrites where old and new version can share their blocks: what the disk of the side that receives is given to
// write.
func TestBenchShared(t *testing.T) {
	heavy(t, "rdc-shared")
	size := deltaSize(t)
	var written, records []float64
	for range benchRuns {
		c := newCluster(t, plan{size: 3*size + gib, kind: "xfs"})
		a := c.members[0]
		writeLarge(t, a.path("large"), size)
		c.apply()
		c.wait(10 * time.Minute)
		aside := filepath.Join(c.trees[0].point, "aside")
		editLarge(t, a.path("large"), aside, "", false)
		must(t, "sync")
		tree, state := c.trees[1].written(), c.states[1].written()
		if err := os.Rename(aside, a.path("large")); err != nil {
			t.Fatal(err)
		}
		c.wait(10 * time.Minute)
		must(t, "sync")
		written = append(written, float64(c.trees[1].written()-tree)/1e6)
		records = append(records, float64(c.states[1].written()-state)/1e6)
		c.converged()
	}
	changed := float64(deltaPlaces*deltaBytes) / 1e6
	figures.add(t, figure{Row: "rdc-shared", What: "xfs, 16 x 64 KiB overwritten, written to the receiver's disk", Unit: "MB", Ours: median(written), Runs: written}.
		beside("changed", changed).bar("at most 2 x", median(written) <= 2*changed))
	figures.add(t, figure{Row: "rdc-shared", What: "to the disk of its records", Unit: "MB", Ours: median(records), Runs: records})
}

// written is what the image's device has been given to write so far, in bytes.
func (im *image) written() int64 {
	im.t.Helper()
	text, err := os.ReadFile("/sys/block/" + filepath.Base(im.loop) + "/stat")
	if err != nil {
		im.t.Fatal(err)
	}
	sectors, err := strconv.ParseInt(strings.Fields(string(text))[6], 10, 64)
	if err != nil {
		im.t.Fatal(err)
	}
	return 512 * sectors
}

// TestBenchDocument is the row of a presentation of 2 MB in which a sentence is typed.
func TestBenchDocument(t *testing.T) {
	benchmark(t, "rdc-document")
	c := newCluster(t, plan{})
	a := c.members[0]
	doc := newDocument(random(7, "presentation"), 2_000_000)
	doc.save(t, a.path("talk.ppt"))
	c.apply()
	c.wait(patience)
	doc.edit()
	wire := wireOf(c, func() { doc.save(t, a.path("talk.ppt")) })
	c.converged()
	figures.add(t, figure{Row: "rdc-document", What: "2 MB, a sentence typed, on the wire both ways", Unit: "kB", Ours: float64(wire) / 1e3}.
		beside("DFSR", 60).bar("at most 40 kB", wire <= 40_000))
}

// TestBenchOffice is the row of 780 documents after typical edits.
func TestBenchOffice(t *testing.T) {
	benchmark(t, "rdc-office")
	const documents = 780
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	rng := random(8, "office")
	docs := make([]*document, documents)
	for i := range docs {
		docs[i] = newDocument(rng, int(min(20_000*(1+rng.ExpFloat64()*10), 4e6)))
		docs[i].save(t, a.path(fmt.Sprintf("document-%03d.doc", i)))
	}
	c.apply()
	c.wait(patience)
	for _, d := range docs {
		for range 1 + rng.IntN(4) {
			d.edit()
		}
	}
	saved := b.folder().RdcSavedBytes
	var whole int64
	wire := wireOf(c, func() {
		for i, d := range docs {
			whole += int64(d.save(t, a.path(fmt.Sprintf("document-%03d.doc", i))))
		}
	})
	c.converged()
	by := 100 * float64(b.folder().RdcSavedBytes-saved) / float64(whole)
	figures.add(t, figure{Row: "rdc-office", What: fmt.Sprintf("%d documents, %.0f MB, saved by RDC alone", documents, float64(whole)/1e6), Unit: "%", Ours: by}.
		beside("DFSR", 50).bar("at least 60 %", by >= 60))
	figures.add(t, figure{Row: "rdc-office", What: "saved of all, on the wire both ways", Unit: "%", Ours: 100 - 100*float64(wire)/float64(whole)})
}

// document is like a file of the binary office formats: a header and allocation tables of 512-byte sectors, text of two bytes a character in
// runs, tables that repeat, a picture that does not shrink, and a directory and a summary at its end that hold times and counts.
type document struct {
	rng     *rand.Rand
	version uint32
	text    []byte
	tables  []byte
	picture []byte
}

func newDocument(rng *rand.Rand, size int) *document {
	d := &document{rng: rng, version: 1}
	d.text = d.prose(size * 4 / 10)
	for len(d.tables) < size*2/10 {
		row := make([]byte, 48)
		row[0], row[7], row[20] = byte(rng.IntN(20)), byte(len(d.tables)>>8), byte(rng.IntN(256))
		d.tables = append(d.tables, row...)
	}
	d.picture = make([]byte, size*4/10)
	scribble(rng, d.picture)
	return d
}

// prose is n bytes of words, two bytes a character.
func (d *document) prose(n int) []byte {
	var out []byte
	for len(out) < n {
		word := rand.New(rand.NewPCG(uint64(min(d.rng.ExpFloat64()*400, 8000)), 1))
		for range 2 + word.IntN(8) {
			out = append(out, 'a'+byte(word.IntN(26)), 0)
		}
		out = append(out, ' ', 0)
	}
	return out[:n/2*2]
}

// edit types a sentence somewhere and changes a few rows of the tables.
func (d *document) edit() {
	at := d.rng.IntN(len(d.text)/2) * 2
	d.text = slices.Insert(d.text, at, d.prose(80+d.rng.IntN(200))...)
	for range 3 {
		if len(d.tables) > 0 {
			d.tables[d.rng.IntN(len(d.tables))]++
		}
	}
	d.version++
}

// save writes the document as its program does, and says how long it is.
func (d *document) save(t testing.TB, path string) int {
	t.Helper()
	sector := func(b []byte) []byte { return append(b, make([]byte, -len(b)&511)...) }
	counts := fmt.Sprintf("version %d, %d characters, %d rows, saved at %d", d.version, len(d.text)/2, len(d.tables)/48, 1_000_003*d.version)
	head := sector([]byte("\xd0\xcf\x11\xe0" + counts))
	var sectors []byte // the allocation table: each sector names the next
	for i := range (len(d.text) + len(d.tables) + len(d.picture)) / 512 {
		sectors = append(sectors, byte(i), byte(i>>8), byte(i>>16), 0)
	}
	all := slices.Concat(head, sector(sectors), sector(slices.Clone(d.text)), sector(slices.Clone(d.tables)), sector(slices.Clone(d.picture)),
		sector([]byte("Root Entry "+counts)), sector([]byte("SummaryInformation "+counts)))
	aside := filepath.Join(filepath.Dir(path), "~$"+filepath.Base(path)) // no folder replicates these
	if err := errors.Join(os.WriteFile(aside, all, 0o644), os.Rename(aside, path)); err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestBenchSmallFiles is the row of many small files over a long link.
func TestBenchSmallFiles(t *testing.T) {
	benchmark(t, "small-files")
	const files = 100_000
	c := newLocal(t)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		m.addresses = []string{delayed(t, m.address, 100*time.Millisecond)}
	}
	c.listen = map[string]string{a.name: a.address, b.name: b.address}
	c.enabled[1] = false
	fill{files: files, perDir: 100, bytes: 10_000, seed: 5}.make(t, a.root)
	chownTree(t, a)
	must(t, "sync")
	c.apply()
	a.normal(5 * time.Minute)
	c.enabled[1] = true
	rate := files / timed(func() {
		c.apply()
		c.wait(10 * time.Minute)
	})
	figures.add(t, figure{Row: "small-files", What: "100,000 of 10 kB, round trip 100 ms", Unit: "files/s", Ours: rate}.bar("at least 4,000", rate >= 4000))
}

// The versions of the package with the source tree: the one before, and the one that sourceTree unpacks.
const oldSource = "6.1.176-1"

// oldSourceTree is the tree of an older version of the package, unpacked once and kept.
func oldSourceTree(t testing.TB) string {
	t.Helper()
	cache := cacheDir(t)
	dir := filepath.Join(cache, "old-"+oldSource)
	tree, done := filepath.Join(dir, "linux-source-6.1"), dir+".done"
	if _, err := os.Stat(done); err == nil {
		return tree
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	script := "cd " + dir + " && apt-get download -qq linux-source-6.1=" + oldSource + " && dpkg-deb -x linux-source-6.1_" + oldSource +
		"_all.deb . && tar xJf usr/src/linux-source-6.1.tar.xz && rm -rf usr *.deb"
	if _, err := try("sh", "-c", script); err != nil {
		t.Skipf("SKIPPED: needs version %s of the package linux-source-6.1: %v", oldSource, err)
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestBenchUpdate is the row of a source tree that is brought to a new version on one member.
func TestBenchUpdate(t *testing.T) {
	heavy(t, "source-update")
	program(t)
	needRoot(t, "rsync", "losetup", "ip")
	next, old := sourceTree(t), oldSourceTree(t)
	var ours, theirs, wire, wireTheirs []float64
	for run := range benchRuns {
		t.Run(fmt.Sprintf("rsync %d", run), func(t *testing.T) {
			p := newPair(t, benchImage)
			copyTree(t, old, p.b.point)
			copyTree(t, next, p.a.point)
			p.rsyncDaemon()
			must(t, "sync")
			h := p.net.hosts[1]
			before := h.wireBytes()
			theirs = append(theirs, p.rsync("-z", "--zc=zstd", "--delete", "--exclude=/lost+found"))
			wireTheirs = append(wireTheirs, float64(h.wireBytes()-before)/1e6)
		})
		t.Run(fmt.Sprintf("dfs %d", run), func(t *testing.T) {
			c := newCluster(t, plan{size: benchImage, filters: "{files: []}"})
			a, b := c.members[0], c.members[1]
			copyTree(t, old, a.root)
			c.apply()
			a.must("connection", "set", "projects", a.name+"->"+b.name, "--compression", "on") // as the peer
			c.wait(10 * time.Minute)
			before := b.host.wireBytes()
			must(t, "rsync", "-a", "--delete", "--exclude=/.dfsr", next+"/", a.root+"/")
			ours = append(ours, timed(func() { c.wait(10 * time.Minute) }))
			wire = append(wire, float64(b.host.wireBytes()-before)/1e6)
			c.converged()
			t.Logf("%.2f s after the update, %.1f MB on the wire; %d bytes saved by RDC", ours[run], wire[run], b.folder().RdcSavedBytes)
		})
	}
	if len(ours) < benchRuns || len(theirs) < benchRuns {
		t.Fatal("a run failed")
	}
	figures.add(t, figure{Row: "source-update", What: oldSource + " to the present one, after rsync on one side has ended", Unit: "s", Ours: median(ours), Runs: ours}.
		beside("rsync -az over the link", median(theirs)).bar("at most 0.4 x", median(ours) <= 0.4*median(theirs)))
	figures.add(t, figure{Row: "source-update", What: "on the wire, both ways", Unit: "MB", Ours: median(wire), Runs: wire}.
		beside("rsync -az --zc=zstd", median(wireTheirs)).bar("at most 0.6 x", median(wire) <= 0.6*median(wireTheirs)))
}

// TestBenchArchive is the row of two versions of a tree as archives, the second new under another name.
func TestBenchArchive(t *testing.T) {
	heavy(t, "source-archive")
	program(t)
	needRoot(t, "rsync", "losetup", "ip")
	cache := cacheDir(t)
	tars := [2]string{filepath.Join(cache, "old.tar"), filepath.Join(cache, "next.tar")}
	for i, tree := range []string{oldSourceTree(t), sourceTree(t)} {
		must(t, "tar", "cf", tars[i], "--sort=name", "-C", filepath.Dir(tree), filepath.Base(tree))
		t.Cleanup(func() { _ = os.Remove(tars[i]) })
	}
	info, err := os.Stat(tars[1])
	if err != nil {
		t.Fatal(err)
	}
	var theirs, wireTheirs float64
	for _, block := range []string{"", "--block-size=2048"} {
		p := newPair(t, benchImage)
		must(t, "cp", tars[1], filepath.Join(p.a.point, "tree.tar"))
		must(t, "cp", tars[0], filepath.Join(p.b.point, "tree.tar"))
		p.rsyncDaemon()
		must(t, "sync")
		options := []string{"--no-whole-file", "-z", "--zc=zstd"}
		if block != "" {
			options = append(options, block)
		}
		h := p.net.hosts[1]
		before := h.wireBytes()
		took := p.rsync(options...)
		wire := float64(h.wireBytes()-before) / 1e6
		t.Logf("rsync %s: %.2f s, %.1f MB", strings.Join(options, " "), took, wire)
		if theirs == 0 || took < theirs {
			theirs, wireTheirs = took, wire
		}
	}
	var ours, wire []float64
	for run := range benchRuns {
		t.Run(fmt.Sprintf("dfs %d", run), func(t *testing.T) {
			c := newCluster(t, plan{size: benchImage})
			a, b := c.members[0], c.members[1]
			must(t, "cp", tars[0], a.path("linux-"+oldSource+".tar"))
			c.apply()
			a.must("connection", "set", "projects", a.name+"->"+b.name, "--compression", "on") // as the peer
			c.wait(10 * time.Minute)
			aside := filepath.Join(c.trees[0].point, "aside")
			must(t, "cp", tars[1], aside)
			must(t, "sync")
			before := b.host.wireBytes()
			ours = append(ours, timed(func() {
				if err := unix.Rename(aside, a.path("linux-next.tar")); err != nil {
					t.Fatal(err)
				}
				c.wait(10 * time.Minute)
			}))
			wire = append(wire, float64(b.host.wireBytes()-before)/1e6)
			c.converged()
		})
	}
	if len(ours) < benchRuns {
		t.Fatal("a run failed")
	}
	size := float64(info.Size()) / 1e6
	figures.add(t, figure{Row: "source-archive", What: "another version's archive beside the old one", Unit: "s", Ours: median(ours), Runs: ours}.
		beside("rsync with the old one at hand", theirs).bar("at most 0.6 x", median(ours) <= 0.6*theirs))
	figures.add(t, figure{Row: "source-archive", What: fmt.Sprintf("of %.0f MB on the wire, both ways", size), Unit: "MB", Ours: median(wire), Runs: wire}.
		beside("rsync", wireTheirs).bar("at most 5 % of the file", median(wire) <= 0.05*size))
}
