package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts are the stories of the command line that need no root: testdata/script/*.txtar. DFS_UPDATE=1 rewrites their golden files.
//
// Beside testscript's own there are the commands `exits N PROGRAM ARGS` (runs it and asks for that exit status), `ready STATE` (waits until a
// member answers), and `eventually [!] PROGRAM ARGS` (runs it until it succeeds, or does not).
// $PORT1 to $PORT3 are free ports on loopback.
func TestScripts(t *testing.T) {
	bin := program(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("DFS_UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			dir := filepath.Join(env.WorkDir, ".bin")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.Symlink(bin, filepath.Join(dir, "dfs"))); err != nil {
				return err
			}
			env.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			for i := 1; i <= 3; i++ {
				port, err := scriptPort()
				if err != nil {
					return err
				}
				env.Setenv(fmt.Sprintf("PORT%d", i), port)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "eventually": repeatedly,
		},
	})
}

func scriptPort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// exits runs a program and compares its exit status; `stdout` and `stderr` speak of it afterwards.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%s: exit status %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// ready waits until the member with a state directory answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	repeatedly(ts, neg, []string{"dfs", "--state", args[0], "status"})
}

func repeatedly(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) > 1 && args[0] == "!" {
		neg, args = true, args[1:]
	}
	if !within(30*time.Second, func() bool { return (ts.Exec(args[0], args[1:]...) == nil) != neg }) {
		ts.Fatalf("not within 30 s: %s", strings.Join(args, " "))
	}
}
