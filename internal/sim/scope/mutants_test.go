package scope

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mutant is one line changed, and who must notice.
type mutant struct {
	what, file, old, line, pkg, tests string
}

// readMutants reads the list.
func readMutants(t *testing.T) []mutant {
	t.Helper()
	text, err := os.ReadFile("testdata/mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []mutant
	for n, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		var m *mutant
		if len(out) > 0 {
			m = &out[len(out)-1]
		}
		switch {
		case line == "" || line[0] == '#':
		case word == "mutant":
			out = append(out, mutant{what: rest})
		case word == "file":
			m.file = filepath.Join("../../..", rest)
		case line[0] == '-':
			m.old = line[1:]
		case line[0] == '+':
			m.line = line[1:]
		case word == "by":
			m.pkg, m.tests, _ = strings.Cut(rest, " ")
		default:
			t.Fatalf("mutants.txt:%d: %q", n+1, line)
		}
	}
	return out
}

// apply writes the mutated file and an overlay that puts it in the place of the
// true one.
func (m *mutant) apply(t *testing.T) (overlay string) {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(line) == m.old })
	if at < 0 {
		t.Fatalf("%s does not have the line %q any more: bring testdata/mutants.txt up to date", m.file, m.old)
	}
	lines[at] = m.line
	dir := t.TempDir()
	place, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	mutated := filepath.Join(dir, filepath.Base(m.file))
	table, err := json.Marshal(map[string]map[string]string{"Replace": {place: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	for file, data := range map[string][]byte{mutated: []byte(strings.Join(lines, "\n")), overlay: table} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

// TestMutants: the tests notice when the product is wrong. It builds it some
// dozens of times, so it runs only when it is asked to; without that it sees to
// it that the list still fits the code.
func TestMutants(t *testing.T) {
	mutants := readMutants(t)
	if len(mutants) < 25 {
		t.Errorf("%d mutants", len(mutants))
	}
	for _, m := range mutants {
		t.Run(m.what, func(t *testing.T) {
			overlay := m.apply(t)
			if os.Getenv("MUTANTS") == "" {
				return
			}
			pkg := map[string]string{"scope": "../../../internal/sim/scope", "sim": "../../../internal/sim", "merge": "../../../internal/merge"}[m.pkg]
			begun := time.Now()
			cmd := exec.Command("go", "test", "-count=1", "-failfast", "-timeout=5m", "-overlay="+overlay, "-run="+m.tests, pkg)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.Env = append(os.Environ(), "MUTANTS=", "DFS_SIM_TABLE=")
			err := cmd.Run()
			text := out.String()
			switch {
			case err == nil:
				t.Errorf("nobody notices (%s %s, %.0f s)", m.pkg, m.tests, time.Since(begun).Seconds())
			case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
				t.Errorf("it cannot be built:\n%s", text)
			default:
				t.Logf("noticed by %s after %.0f s: %s", who(text), time.Since(begun).Seconds(), why(text))
			}
		})
	}
}

// who is the test that failed.
func who(text string) string {
	_, rest, ok := strings.Cut(text, "--- FAIL: ")
	if !ok {
		return "a panic or the limit of time"
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// why is the last line that a failing test said of it.
func why(text string) string {
	var last string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "(rule") || strings.Contains(line, "lost:") || strings.Contains(line, "differ") {
			return line[:min(len(line), 160)]
		}
		if line != "" && !strings.HasPrefix(line, "FAIL") {
			last = line
		}
	}
	return last[:min(len(last), 160)]
}
