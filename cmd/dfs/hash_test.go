package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twins makes a small tree of odd things and an exact copy of it.
func twins(t *testing.T) (a, b string) {
	t.Helper()
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, root := range []string{a, b} {
		err := errors.Join(os.MkdirAll(filepath.Join(root, "sub"), 0o755), os.MkdirAll(filepath.Join(root, ".dfsr", "staging"), 0o700),
			os.WriteFile(filepath.Join(root, "sub", "file"), []byte("data"), 0o640), os.Symlink("file", filepath.Join(root, "sub", "link")),
			os.WriteFile(filepath.Join(root, "new\nline \xff"), nil, 0o600), os.WriteFile(filepath.Join(root, ".dfsr", root[len(root)-1:]), nil, 0o600),
			unix.Mkfifo(filepath.Join(root, "pipe"), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		attributes(t, root)
		for _, name := range []string{"sub/file", "sub/link", "new\nline \xff", "sub", "."} {
			ts := unix.NsecToTimespec(int64(1_500_000_000_123_456_789))
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a, b
}

func attributes(t *testing.T, root string) {
	t.Helper()
	for name, value := range map[string]string{"user.DosStream.notes:$DATA": "a stream\x00", "user.own": "1"} {
		if err := unix.Setxattr(filepath.Join(root, "sub", "file"), name, []byte(value), 0); err != nil {
			t.Skipf("SKIPPED: the filesystem of %s has no attributes: %v", root, err)
		}
	}
}

// TestHashCheck: two copies are the same, and each difference is named by what differs.
func TestHashCheck(t *testing.T) {
	a, b := twins(t)
	s := newSite(t, "anybody") // no member runs
	userRuns(t, "mkdir", "-p", filepath.Join(a, "inner/.dfsr"))
	put(t, filepath.Join(a, "inner/own"), "of another replicated folder")
	userRuns(t, "touch", "-r", b, a)
	for _, form := range [][]string{nil, {"--json"}} {
		list := filepath.Join(t.TempDir(), "hashes")
		put(t, list, s.must(append([]string{"hash", "-r", a}, form...)...))
		if text := read(t, list); strings.Count(text, "\n") != 5 || strings.Contains(text, ".dfsr") || strings.Contains(text, "pipe") || strings.Contains(text, "\xff") {
			t.Fatalf("hashes of five objects:\n%s", text)
		}
		if out := s.must("hash", "-r", b, "--check", list); !strings.Contains(out, "The same: 5 objects") {
			t.Errorf("two copies:\n%s", out)
		}
	}
	list := filepath.Join(t.TempDir(), "hashes")
	put(t, list, s.must("hash", "-r", a))
	changes := []struct {
		name, says string
		do         func(file string) error
	}{
		{"sub/file", "sub/file: data, time", func(f string) error { return os.WriteFile(f, []byte("other"), 0) }},
		{"sub/file", "sub/file: mode (0600 here, 0640 there)", func(f string) error { return os.Chmod(f, 0o600) }},
		{"sub/file", "sub/file: stream notes", func(f string) error { return unix.Setxattr(f, "user.DosStream.notes:$DATA", []byte("b"), 0) }},
		{"sub/file", "sub/file: attribute user.own (only there)", func(f string) error { return unix.Removexattr(f, "user.own") }},
		{"sub/file", "sub/file: time", func(f string) error { return os.Chtimes(f, time.Time{}, time.Unix(1, 0)) }},
		{"sub", "sub: time", func(f string) error { return os.Chtimes(f, time.Time{}, time.Unix(1, 0)) }},
		{"sub/file", "sub/file: only there", os.Remove},
		{"sub/link", "sub/link: target, time", func(f string) error { return errors.Join(os.Remove(f), os.Symlink("away", f)) }},
		{"sub/extra", "sub/extra: only here", func(f string) error { return os.WriteFile(f, nil, 0o600) }},
		{"sub/file", "sub/file: a directory here, a file there", func(f string) error { return errors.Join(os.Remove(f), os.Mkdir(f, 0o700)) }},
	}
	if os.Geteuid() == 0 {
		changes = append(changes, struct {
			name, says string
			do         func(file string) error
		}{"sub/file", "sub/file: owner (5 here, 0 there)", func(f string) error { return os.Chown(f, 5, -1) }})
	}
	for _, c := range changes {
		_, b := twins(t)
		if err := c.do(filepath.Join(b, c.name)); err != nil {
			t.Fatal(err)
		}
		out, errs, exit := s.dfs("hash", "-r", b, "--check", list)
		if exit != exitNotYet || !strings.Contains(out, c.says+"\n") || !strings.Contains(errs, "differ") {
			t.Errorf("want %q, exit %d:\n%s%s", c.says, exit, out, errs)
		}
		out, _, _ = s.dfs("hash", "-r", b, "--check", list, "--json")
		var d hashDifference
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&d); err != nil || len(d.Differs) == 0 {
			t.Errorf("as JSON %q, error %v", out, err)
		}
	}
	s.refused(exitFailed, "not the output of `dfs hash`", "hash", "-r", a, "--check", filepath.Join(a, "sub", "file"))
	s.refused(exitFailed, "no such file", "hash", filepath.Join(a, "none"))
	s.refused(exitUsage, "at least one PATH", "hash")
}

// TestHashIsTheRecords: the hashes are those that the member has on record.
func TestHashIsTheRecords(t *testing.T) {
	hub := alone(t)
	hub.write("plan.txt", "the plan")
	hub.must("status", "--wait", "--timeout", "20s")
	file := filepath.Join(hub.folder, "plan.txt")
	f := strings.Fields(hub.must("hash", file))
	if out := hub.must("record", file); len(f) < 6 || !strings.Contains(out, f[1]) || !strings.Contains(out, "; seen with ") || !strings.Contains(out, ", ctime ") {
		t.Errorf("hash says %q, the record is\n%s", f, out)
	}
}
