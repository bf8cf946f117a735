package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHalfOpenLink: a partner that vanishes without a word is noticed within 20 s, and found again when it is back.
func TestHalfOpenLink(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	b.host.cut()
	began := time.Now()
	a.finds("partner-unreachable", 25*time.Second)
	if took := time.Since(began); took > 21*time.Second {
		t.Errorf("noticed after %v", took)
	}
	write(t, a, "meanwhile", "A's")
	b.host.heal()
	arrives(t, b, "meanwhile", "A's")
	a.clears("partner-unreachable", 30*time.Second)
}

// TestTokens: a wrong token and a used one are refused with a line.
func TestTokens(t *testing.T) {
	c := newLocal(t)
	hub := c.members[0]
	token := strings.TrimSpace(hub.must("invite", "third"))
	dir := workDir(t)
	join := func(token, state string) error {
		_, err := try(program(t), "--state", filepath.Join(dir, state), "join", token, "--address", freePort(t))
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		if code := exitCode(err); code != 1 && code != 2 {
			t.Errorf("%s: exit status %d: %v", what, code, err)
		} else if strings.Contains(err.Error(), "goroutine") || !hasRemedy(err.Error()) {
			t.Errorf("%s: no clear line: %v", what, err)
		}
	}
	refused("no token", join("nonsense", "a"))
	wrong := []byte(token)
	wrong[len(wrong)/2] ^= 1
	refused("a token with a letter changed", join(string(wrong), "b"))
	if err := join(token, "c"); err != nil {
		t.Fatalf("the right token: %v", err)
	}
	refused("a used token", join(token, "d"))
	text, err := os.ReadFile(hub.logs)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), token) {
		t.Error("the log holds the token")
	}
	var modes []string
	err = filepath.WalkDir(hub.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !d.IsDir() && filepath.Dir(path) == hub.state && strings.HasSuffix(path, ".key") {
			modes = append(modes, fmt.Sprintf("%s %v", path, info.Mode()))
		}
		return err
	})
	info, statErr := os.Stat(hub.state)
	if err := errors.Join(err, statErr); err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 || len(modes) > 0 {
		t.Errorf("the state directory is %v, and others can read %v", info.Mode(), modes)
	}
}

// TestAddressList: a server is reached by the second of its addresses when the first does not answer, and a round trip of 100 ms is no
// obstacle.
func TestAddressList(t *testing.T) {
	c := newLocal(t)
	a := c.members[0]
	b := c.members[1]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	far := delayed(t, b.address, 100*time.Millisecond)
	c.listen = map[string]string{b.name: b.address}
	b.addresses = []string{dead, far}
	c.apply()
	c.wait(patience)
	fill{files: 2000, perDir: 50, bytes: 1000, seed: 8}.make(t, b.root)
	chownTree(t, b)
	began := time.Now()
	c.wait(patience)
	took := time.Since(began)
	c.converged()
	t.Logf("2,000 files over a round trip of 100 ms: %v", took)
	if took > 30*time.Second {
		t.Errorf("2,000 small files took %v; throughput depends on the round trip", took)
	}
	if n := a.folder().Files; n != 2000 {
		t.Errorf("%s counts %d files", a.name, n)
	}
}

// TestSlowLink: on a link that a big file fills for seconds, a small file does not wait behind it.
func TestSlowLink(t *testing.T) {
	c := newCluster(t, plan{})
	a, b := c.members[0], c.members[1]
	c.apply()
	c.wait(patience)
	b.host.shape("80mbit")
	data := make([]byte, 60*mib)
	scribble(random(1, "big"), data)
	if err := os.WriteFile(a.path("big"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	before := b.host.wireBytes()
	eventually(t, 20*time.Second, "the big file is on its way", func() bool { return b.host.wireBytes()-before > 4*mib })
	began := time.Now()
	write(t, a, "small", "overtakes")
	arrives(t, b, "small", "overtakes")
	took := time.Since(began)
	if _, err := os.Lstat(b.path("big")); err == nil {
		t.Error("the big file was there first; the story shows nothing")
	}
	if took > 3*time.Second {
		t.Errorf("the small file took %v behind the big one", took)
	}
	t.Logf("the small file took %v", took)
	c.wait(patience)
	c.converged()
}

// TestBenchLongLink fills 1 Gbit/s at a round trip of 100 ms with one file, and shows what many small ones reach.
func TestBenchLongLink(t *testing.T) {
	benchmark(t, "long-link")
	c := newLocal(t)
	a, b := c.members[0], c.members[1]
	far := make([]string, 2)
	for i, m := range c.members {
		far[i] = delayed(t, m.address, 100*time.Millisecond)
		m.addresses = []string{far[i]}
	}
	c.listen = map[string]string{a.name: a.address, b.name: b.address}
	c.apply()
	c.wait(patience)
	const size = 2 * gib
	data := make([]byte, size)
	scribble(random(1, "long"), data)
	if err := os.WriteFile(a.path("large"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	chownTree(t, a)
	rate := float64(size) / 1e6 / timed(func() { c.wait(5 * time.Minute) })
	figures.add(t, figure{Row: "long-link", What: "one file of 2 GiB, 100 ms round trip, to status --wait", Unit: "MB/s", Ours: rate}.bar("1 Gbit/s: 115", rate >= 115))
	const files = 20_000
	fill{files: files, perDir: 100, bytes: 2000, seed: 4}.make(t, a.path("small"))
	chownTree(t, a)
	many := files / timed(func() { c.wait(5 * time.Minute) })
	figures.add(t, figure{Row: "long-link", What: "20,000 files of 2 kB, 100 ms round trip", Unit: "files/s", Ours: many})
}

// chownTree gives a tree to the user that the member runs as.
func chownTree(t *testing.T, m *member) {
	t.Helper()
	if len(m.prefix) > 0 {
		must(t, "chown", "-R", "65534:65534", m.root)
	}
}
