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
