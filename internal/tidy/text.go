package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

func fmtOver(what string, n, limit int) string {
	return fmt.Sprintf("%s %d lines, the ceiling is %d", what, n, limit)
}

// machinePath matches paths that mean something on one machine only. The
// pattern is written so that it does not match itself.
var machinePath = regexp.MustCompile(`(^|[^\w.$-])/(work|farm)/`)

// checkMachinePaths reports such paths anywhere in the tree, testdata included.
func checkMachinePaths(t *tree) []breach {
	var out []breach
	for _, p := range t.paths("") {
		for i, line := range strings.Split(t.texts[p], "\n") {
			if m := machinePath.FindString(line); m != "" {
				out = append(out, breach{p, i + 1, "path", "names " + m[strings.IndexByte(m, '/'):],
					"the repository speaks of itself alone; nothing in it may need one machine"})
			}
		}
	}
	return out
}

var (
	inlineLink = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	defLink    = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s*<?([^\s>]+)`)
	inlineCode = regexp.MustCompile("`[^`]*`")
	scheme     = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// checkLinks reports relative links in Markdown that name no file, or a heading
// that the file does not have.
func checkLinks(t *tree) []breach {
	var out []breach
	for _, p := range t.paths(".md") {
		if underTestdata(p) {
			continue
		}
		for i, line := range proseLines(t.texts[p]) {
			for _, m := range slices.Concat(inlineLink.FindAllStringSubmatch(line, -1), defLink.FindAllStringSubmatch(line, -1)) {
				if what := t.judgeLink(p, m[1]); what != "" {
					out = append(out, breach{p, i + 1, "link", what, "a reader who follows it must arrive"})
				}
			}
		}
	}
	return out
}

// judgeLink says what is wrong with the link target found in the file from, or "".
func (t *tree) judgeLink(from, target string) string {
	if scheme.MatchString(target) {
		return ""
	}
	name, anchor, _ := strings.Cut(target, "#")
	to := from
	if name != "" {
		to = path.Join(path.Dir(from), name)
	}
	if _, ok := t.texts[to]; !ok {
		if anchor == "" && t.isDir(to) {
			return ""
		}
		return target + " does not exist"
	}
	if anchor != "" && strings.HasSuffix(to, ".md") && !slices.Contains(anchors(t.texts[to]), anchor) {
		return to + " has no heading #" + anchor
	}
	return ""
}

func (t *tree) isDir(dir string) bool {
	if dir == "." {
		return true
	}
	for p := range t.texts {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// proseLines are the lines of a Markdown text with code, fenced or inline, blanked.
func proseLines(text string) []string {
	lines := strings.Split(text, "\n")
	fenced := false
	for i, l := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(l), "```")
		if fence {
			fenced = !fenced
		}
		if fence || fenced || strings.HasPrefix(l, "    ") && !strings.HasPrefix(strings.TrimSpace(l), "-") {
			lines[i] = ""
			continue
		}
		lines[i] = inlineCode.ReplaceAllString(l, "")
	}
	return lines
}

var notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the fragments by which the headings of a Markdown text are reached.
func anchors(text string) []string {
	var out []string
	fenced := false
	for l := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(l), "```") {
			fenced = !fenced
		}
		head := strings.TrimLeft(l, "#")
		if fenced || head == l || !strings.HasPrefix(head, " ") {
			continue
		}
		slug := notAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(head)), "")
		out = append(out, strings.ReplaceAll(slug, " ", "-"))
	}
	return out
}

// proof matches `package.Name` in a table cell: a test, a fuzz target or a checker.
var proof = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Benchmark|check)[A-Za-z0-9_]*)`")

// checkProofs reports tests and checkers that docs/rules.md and
// docs/verification.md name and the tree does not have.
func checkProofs(t *tree) []breach {
	have := map[string]bool{}
	for _, f := range t.files {
		for _, fn := range f.funcs() {
			have[path.Dir(f.path)+"."+fn.Name.Name] = true
		}
	}
	var out []breach
	for _, p := range []string{"docs/rules.md", "docs/verification.md"} {
		for i, line := range strings.Split(t.texts[p], "\n") {
			for _, m := range proof.FindAllStringSubmatch(line, -1) {
				if have["internal/"+m[1]+"."+m[2]] || have[m[1]+"."+m[2]] {
					continue
				}
				out = append(out, breach{p, i + 1, "proof", m[1] + " declares no " + m[2],
					"a rule that points at a proof which is gone is shown by nothing"})
			}
		}
	}
	return out
}
