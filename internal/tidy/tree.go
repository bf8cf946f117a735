package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// breach is one place where the tree departs from a rule.
type breach struct {
	file string
	line int
	rule string
	what string
	why  string
}

// String is the whole message: where, which rule, what was found, and the reason.
func (b breach) String() string {
	return fmt.Sprintf("%s:%d: %s: %s (%s)", b.file, b.line, b.rule, b.what, b.why)
}

// tree is the repository as the checks see it.
type tree struct {
	fsys   fs.FS
	module string
	fset   *token.FileSet
	files  []*source
	// texts are all files that a person wrote, Go and Markdown among them, by path.
	texts map[string]string
}

// source is one Go file.
type source struct {
	path      string
	module    string
	text      string
	fset      *token.FileSet
	syntax    *ast.File
	isTest    bool
	generated bool
}

// importOf is one import: where it stands and what it names.
type importOf struct {
	pos  token.Pos
	path string
}

// skipDirs hold what is built, fetched or of git, at any depth.
var skipDirs = []string{".git", ".cache", "bin", "out", "node_modules"}

// maxText bounds what is read of one file; what is larger is data, not text.
const maxText = 2 << 20

// readTree reads and parses the tree. A Go file that does not parse is an
// error: nothing can be said about it.
func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys, fset: token.NewFileSet(), texts: map[string]string{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if slices.Contains(skipDirs, d.Name()) {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		return t.read(p, d)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	t.module = moduleOf(t.texts["go.mod"])
	if t.module == "" {
		return nil, fmt.Errorf("read the tree: go.mod at its root names no module")
	}
	return t, t.parse()
}

func (t *tree) read(p string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil || info.Size() > maxText {
		return err
	}
	text, err := fs.ReadFile(t.fsys, p)
	if err != nil {
		return err
	}
	if !strings.ContainsRune(string(text[:min(len(text), 1024)]), 0) {
		t.texts[p] = string(text)
	}
	return nil
}

func (t *tree) parse() error {
	for _, p := range t.paths(".go") {
		if underTestdata(p) {
			continue
		}
		syntax, err := parser.ParseFile(t.fset, p, t.texts[p], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", p, err)
		}
		t.files = append(t.files, &source{
			path: p, module: t.module, text: t.texts[p], fset: t.fset, syntax: syntax,
			isTest:    strings.HasSuffix(p, "_test.go"),
			generated: ast.IsGenerated(syntax),
		})
	}
	return nil
}

// paths lists the texts whose name ends in suffix, in order.
func (t *tree) paths(suffix string) []string {
	var out []string
	for p := range t.texts {
		if strings.HasSuffix(p, suffix) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// written lists the Go files that a person wrote.
func (t *tree) written() []*source {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *source) bool { return f.generated })
}

func (f *source) line(pos token.Pos) int { return f.fset.Position(pos).Line }

func (f *source) breach(pos token.Pos, rule, what, why string) breach {
	return breach{file: f.path, line: f.line(pos), rule: rule, what: what, why: why}
}

func (f *source) imports() []importOf {
	var out []importOf
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			out = append(out, importOf{spec.Pos(), p})
		}
	}
	return out
}

// local is the name under which the file knows the import, or "".
func (f *source) local(imp string) string {
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != imp {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(imp)
	}
	return ""
}

func underTestdata(p string) bool {
	return strings.HasPrefix(p, "testdata/") || strings.Contains(p, "/testdata/")
}

func moduleOf(gomod string) string {
	for line := range strings.Lines(gomod) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}
