package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo is what a newcomer sees: `dfs demo`, without root, a change in each folder, Ctrl-C, and nothing left behind.
func TestDemo(t *testing.T) {
	dir := workDir(t)
	temp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(temp, 0o777), os.Chmod(temp, 0o777)); err != nil {
		t.Fatal(err)
	}
	var prefix []string
	if os.Geteuid() == 0 {
		prefix = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	}
	args := append(prefix, program(t), "demo")
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	text := func() string {
		out, err := os.ReadFile(said.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	eventually(t, 60*time.Second, "the demonstration is ready", func() bool { return strings.Contains(text(), "Ctrl-C stops both") })
	folders, err := filepath.Glob(filepath.Join(temp, "*", "*", "docs"))
	if err != nil || len(folders) != 2 {
		t.Fatalf("the demonstration has the folders %v (%v), and said:\n%s", folders, err, text())
	}
	if diff := difference(walk(t, folders[0]), walk(t, folders[1])); len(diff) > 0 {
		t.Errorf("ready, but the folders differ:\n%s", shorten(strings.Join(diff, "\n"), 20))
	}
	for i, folder := range folders {
		name := []string{"one", "other"}[i]
		put := append(prefix, "sh", "-c", `echo "$1" >"$2/$1"`, "sh", name, folder)
		must(t, put[0], put[1:]...)
		eventually(t, 30*time.Second, name+" is in the other folder", func() bool {
			is, err := os.ReadFile(filepath.Join(folders[1-i], name))
			return err == nil && string(is) == name+"\n"
		})
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-gone:
		if code := exitCode(err); code != 0 {
			t.Errorf("after Ctrl-C the exit status is %d; said:\n%s", code, text())
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("the demonstration goes on 15 s after Ctrl-C; said:\n%s", text())
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
