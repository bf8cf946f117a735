package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toolLimit bounds each program of the system that a story calls.
const toolLimit = 5 * time.Minute

// try runs a program to its end and gives its standard output; the error carries its standard error.
func try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return out.String(), err
}

// must runs a program whose success the story takes for granted.
func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exitCode is the exit status that err carries, 0 without an error and -1 for a program that did not exit.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// eventually waits until holds does, looking every 10 ms, and ends the test if it does not in time.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	if !within(limit, holds) {
		t.Fatalf("not within %v: %s", limit, what)
	}
}

// within reports whether holds becomes true in time.
func within(limit time.Duration, holds func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		if holds() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// pass lets d go by: users think, links stay cut.
func pass(d time.Duration) { <-time.After(d) }

// program is the binary under test.
func program(t testing.TB) string {
	t.Helper()
	path := os.Getenv("DFS")
	if path == "" {
		t.Skip("SKIPPED: DFS does not name the binary; run `make e2e`")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the binary that DFS names: %v", err)
	}
	return path
}

// needRoot skips a story that makes namespaces, mounts or owners.
func needRoot(t testing.TB, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, for network namespaces and loop devices")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed; `make deps` installs it", tool)
		}
	}
}

// soaking and benching tell the long runs from the everyday ones.
func soaking() bool  { return os.Getenv("DFS_SOAK") != "" }
func benching() bool { return os.Getenv("DFS_BENCH") != "" }

// workPrefix begins the name of each work directory; the id of the owning process follows.
const workPrefix = "dfs-e2e-"

// workDir is a directory of this test, outside $TMPDIR's long names: a control socket's path has 107 bytes.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", fmt.Sprintf("%s%d-", workPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("work directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cacheDir is where trees that are costly to make outlive a run.
func cacheDir(t testing.TB) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "opendfs-bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
