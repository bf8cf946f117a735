package tidy

import (
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFileLines = 500
	maxFuncLines = 70
	// minDoc is the least that a specification can be said in, in characters.
	minDoc = 120
)

// sleeps lists the files of the product that may sleep, each with its reason.
// Waiting elsewhere is a timer or a channel that a stop can interrupt.
var sleeps = map[string]string{
	"internal/journal/hub.go": "events gather in the kernel for two milliseconds at most; who ends waits no longer than that",
}

// clockCalls are the functions of package time that read or wait on the clock.
var clockCalls = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// checkPure reports calls and uses of the clock in pure packages. Their imports
// are judged by checkLayers.
func checkPure(t *tree) []breach {
	var out []breach
	for _, f := range t.files {
		at := place(path.Dir(f.path))
		if at < 0 || layers[at].kind != pure || f.isTest {
			continue
		}
		for _, sel := range f.uses("time", clockCalls) {
			out = append(out, f.breach(sel.Pos(), "pure", "uses time."+sel.Sel.Name,
				"a pure package takes the instant as an argument, or a run cannot be replayed"))
		}
	}
	return out
}

// checkSleep reports time.Sleep, in tests everywhere and in the product outside the list.
func checkSleep(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		if _, ok := sleeps[f.path]; ok && !f.isTest {
			continue
		}
		why := "a sleep cannot be stopped; wait on a timer or a channel, or list the file with its reason in internal/tidy/source.go"
		if f.isTest {
			why = "a sleeping test is slow when it passes and wrong when it fails; wait for the event, or use testing/synctest"
		}
		for _, sel := range f.uses("time", []string{"Sleep"}) {
			out = append(out, f.breach(sel.Pos(), "sleep", "uses time.Sleep", why))
		}
	}
	return out
}

// uses finds NAME.x for the import imp, where x is one of names.
func (f *source) uses(imp string, names []string) []*ast.SelectorExpr {
	local := f.local(imp)
	if local == "" {
		return nil
	}
	var out []*ast.SelectorExpr
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && slices.Contains(names, sel.Sel.Name) {
			out = append(out, sel)
		}
		return true
	})
	return out
}

// checkInit reports init functions.
func checkInit(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		for _, fn := range f.funcs() {
			if fn.Recv == nil && fn.Name.Name == "init" {
				out = append(out, f.breach(fn.Pos(), "init", "declares init",
					"wiring happens in one place in reading order: cmd/dfs/serve.go constructs everything"))
			}
		}
	}
	return out
}

// checkCeilings reports files and functions of the product that are too long.
func checkCeilings(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		if f.isTest {
			continue
		}
		if n := strings.Count(f.text, "\n"); n > maxFileLines {
			out = append(out, f.breach(f.syntax.Package, "ceiling", fmtOver("the file has", n, maxFileLines),
				"the object that owns the state machine grows without end unless something stops it; split by verb or noun"))
		}
		for _, fn := range f.funcs() {
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFuncLines {
				out = append(out, f.breach(fn.Pos(), "ceiling", fmtOver(fn.Name.Name+" has", n, maxFuncLines),
					"let the parent branch and the leaves compute"))
			}
		}
	}
	return out
}

func (f *source) funcs() []*ast.FuncDecl {
	var out []*ast.FuncDecl
	for _, d := range f.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			out = append(out, fn)
		}
	}
	return out
}

// checkDocs reports packages without a comment, or with one that specifies nothing.
func checkDocs(t *tree) []breach {
	best := map[string]*source{}
	var order []string
	for _, f := range t.written() {
		if strings.HasSuffix(f.syntax.Name.Name, "_test") {
			continue
		}
		dir := path.Dir(f.path)
		if best[dir] == nil {
			best[dir] = f
			order = append(order, dir)
		}
		if len(f.syntax.Doc.Text()) > len(best[dir].syntax.Doc.Text()) {
			best[dir] = f
		}
	}
	var out []breach
	for _, dir := range order {
		f := best[dir]
		doc, name := f.syntax.Doc.Text(), f.syntax.Name.Name
		what := ""
		switch {
		case doc == "":
			what = "package " + name + " has no comment"
		case name == "main" && !strings.HasPrefix(doc, "Command "), name != "main" && !strings.HasPrefix(doc, "Package "+name+" "):
			what = "the comment of package " + name + " does not begin with its name"
		case len(doc) < minDoc:
			what = "the comment of package " + name + " is no specification: what it is, its contract, what it does not do"
		default:
			continue
		}
		out = append(out, f.breach(f.syntax.Package, "package doc", what,
			"a package is one noun its user would say, and its comment is a small specification"))
	}
	return out
}

var (
	openNote = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	docEntry = regexp.MustCompile(`\bdocs/[a-z0-9/_-]+\.md\b`)
)

// checkNotes reports comments with an open note that names no entry in docs/.
func checkNotes(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				note := openNote.FindString(c.Text)
				if note == "" || t.texts[docEntry.FindString(group.Text())] != "" {
					continue
				}
				out = append(out, f.breach(c.Pos(), "open note", note+" without an entry in docs/",
					"work that is owed belongs where it is seen and ranked; name the docs/ file that holds it"))
			}
		}
	}
	return out
}

// checkFormat reports files that gofmt would change.
func checkFormat(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		want, err := format.Source([]byte(f.text))
		if err == nil && string(want) == f.text {
			continue
		}
		out = append(out, breach{f.path, firstDifference(f.text, string(want)), "format", "gofmt would change it",
			"one format, so that a difference is a change"})
	}
	return out
}

// firstDifference is the line at which two texts part.
func firstDifference(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i + 1
		}
	}
	return min(len(x), len(y))
}
