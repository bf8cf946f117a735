package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestOthersLeavesOutWhatThisProcessDoes(t *testing.T) {
	root := folder(t, tmpfs(t))
	j := open(t, root, Options{Only: Fanotify, Others: true})
	for _, name := range []string{"own-one", "own-two"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte("x"), 0o600))
	}
	must(t, os.Rename(filepath.Join(root, "own-one"), filepath.Join(root, "own-three")))
	must(t, exec.Command("sh", "-c", "echo x >>"+filepath.Join(root, "own-two")+"; echo y >"+filepath.Join(root, "theirs")).Run())
	must(t, os.Chmod(filepath.Join(root, "theirs"), 0o644))
	seen := map[string]bool{}
	for _, d := range settle(t, j) {
		seen[d.Name] = true
	}
	if !seen["theirs"] || !seen["own-two"] {
		t.Errorf("what another process did is missing: %v", seen)
	}
	if seen["own-one"] || seen["own-three"] {
		t.Errorf("what this process did is told: %v", seen)
	}
}

// A directory that this process moves is where users' changes in it are told from then
// on, although the move itself is not.
func TestOthersFollowsWhatThisProcessMoves(t *testing.T) {
	root := folder(t, tmpfs(t))
	in := func(name string) string { return filepath.Join(root, name) }
	j := open(t, root, Options{Only: Fanotify, Others: true})
	must(t, os.MkdirAll(in("a/deep"), 0o755))
	must(t, os.Mkdir(in("b"), 0o755))
	run(t, root, "echo 1 > a/deep/f")
	want(t, settle(t, j), "a/deep/f wrote")
	must(t, os.Rename(in("a"), in("b/c")))
	run(t, root, "echo 2 > b/c/deep/f")
	want(t, settle(t, j), "b/c/deep/f wrote")
	must(t, os.Mkdir(in(".dfsr/new"), 0o755))
	must(t, os.Rename(in(".dfsr/new"), in("new")))
	run(t, root, "echo 3 > new/f")
	want(t, settle(t, j), "new/f wrote")
}
