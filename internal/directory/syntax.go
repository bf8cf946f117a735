package directory

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is the shape of a node of a document.
type kind uint8

const (
	null kind = iota
	scalar
	mapping
	sequence
)

func (k kind) String() string {
	return [...]string{"nothing", "a single value", "keys with values", "a list"}[k]
}

// place is a position in the text, lines and columns (in runes) from 1.
type place struct{ line, col int }

// node is a value of a document, with its extent in the text. The same type
// without extents is the canonical tree that is written.
type node struct {
	kind kind
	text string // scalar: the value
	// plain is a scalar that is written without quotes whatever it looks like:
	// a number, a boolean, a size, an id.
	plain bool
	flow  bool // a collection written in {} or []
	pairs []pair
	items []*node
	// start and end (behind the last rune) of a scalar or a flow collection;
	// start alone of a block collection.
	start, end place
	lastLine   int // of anything in the node
}

type pair struct {
	key   node
	colon place // where ':' is, zero if the key has none
	value *node
}

// get finds the value of a key, nil if it has none.
func (n *node) get(key string) *node {
	for _, p := range n.pairs {
		if p.key.text == key {
			return p.value
		}
	}
	return nil
}

const maxScalar = 16 << 10

// normalize gives the text that positions refer to: no byte order mark, and
// LF at the end of lines.
func normalize(data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	return bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
}

// parseTree reads the YAML of a normalized document into nodes. YAML that a
// domain file has no use for (anchors, tags, block scalars, several documents)
// is refused, which also bounds what the text can make the parser do. A null
// root is an empty document.
func parseTree(data []byte, file string) (*node, Problems) {
	t := tree{file: file}
	if p, ok := t.badBytes(data); ok {
		return nil, Problems{p}
	}
	tokens := lexer.Tokenize(string(data))
	g := guard{tree: &t}
	if g.check(tokens); len(t.problems) > 0 {
		return nil, t.problems
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Problems{t.syntaxError(err)}
	}
	root := &node{start: place{1, 1}, lastLine: 1}
	for _, doc := range f.Docs {
		if doc.Body != nil {
			root = t.node(doc.Body)
		}
	}
	if t.scalars != g.scalars && len(t.problems) == 0 {
		t.at(place{1, 1}, fmt.Sprintf("the YAML can be read in two ways: it has %d keys and values, or %d", g.scalars, t.scalars),
			"write it plainly: one key on a line, and nothing behind a closing bracket")
	}
	return root, t.problems
}

type tree struct {
	file     string
	problems Problems
	// scalars counts the keys and values that the parser gave, against those
	// of the text: what it drops must not be taken for absent.
	scalars int
}

func (t *tree) at(p place, what, remedy string) {
	t.problems = append(t.problems, Problem{File: t.file, Line: p.line, Column: p.col, What: what, Remedy: remedy})
}

func (t *tree) report(tk *token.Token, what, remedy string) { t.at(tokenPlace(tk), what, remedy) }

func tokenPlace(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return place{1, 1}
	}
	return place{max(tk.Position.Line, 1), max(tk.Position.Column, 1)}
}

// badBytes finds what no YAML text may hold, before the lexer sees it.
func (t *tree) badBytes(data []byte) (Problem, bool) {
	if len(data) > MaxSize {
		return Problem{
			File:   t.file,
			What:   fmt.Sprintf("the document has %d bytes, more than the %d that are allowed", len(data), MaxSize),
			Remedy: "split the domain",
		}, true
	}
	line, col := 1, 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return Problem{t.file, line, col, "", fmt.Sprintf("byte 0x%02x is not UTF-8 text", data[i]), "save the file as UTF-8"}, true
		case r == '\n':
			line, col = line+1, 0
		case r == '\t' && len(bytes.TrimSpace(data[bytes.LastIndexByte(data[:i], '\n')+1:i])) == 0:
			return Problem{t.file, line, col, "", "a tab indents the line", "indent with spaces"}, true
		case r != '\t' && unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff':
			return Problem{t.file, line, col, "", fmt.Sprintf("control character %U", r), "remove it"}, true
		}
		i, col = i+n, col+1
	}
	return Problem{}, false
}

func (t *tree) syntaxError(err error) Problem {
	p := Problem{File: t.file, What: "the YAML is broken: " + err.Error(), Remedy: "correct it"}
	var e yaml.Error
	if errors.As(err, &e) {
		at := tokenPlace(e.GetToken())
		p.Line, p.Column = at.line, at.col
		p.What = "the YAML is broken: " + e.GetMessage()
		p.Remedy = "correct the line or the one before it: indentation, quotes, brackets, a space after ':'"
	}
	return p
}

func (t *tree) node(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return t.mapping(n)
	case *ast.MappingValueNode:
		return t.mapping(&ast.MappingNode{Start: n.Start, Values: []*ast.MappingValueNode{n}})
	case *ast.SequenceNode:
		return t.sequence(n)
	case *ast.NullNode:
		at := tokenPlace(n.GetToken())
		v := &node{start: at, end: at, lastLine: at.line}
		if tk := n.GetToken(); tk != nil && tk.Type == token.NullType {
			v.end.col += len(tk.Value)
			t.scalars++
		}
		return v
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return t.scalar(n.GetToken())
	}
	t.report(n.GetToken(), "a value of a kind that is not used in a domain file", "write a plain or quoted value")
	at := tokenPlace(n.GetToken())
	return &node{start: at, end: at, lastLine: at.line}
}

func (t *tree) scalar(tk *token.Token) *node {
	at := tokenPlace(tk)
	t.scalars++
	v := &node{kind: scalar, text: tk.Value, start: at, lastLine: at.line}
	v.plain = tk.Type != token.StringType && tk.Type != token.SingleQuoteType && tk.Type != token.DoubleQuoteType
	source := strings.TrimSpace(tk.Origin)
	if strings.Contains(source, "\n") {
		t.at(at, fmt.Sprintf("the value %s goes over several lines", quote(tk.Value)), "write it on one line, or correct the indentation of the next")
	}
	if len(tk.Value) > maxScalar {
		t.at(at, fmt.Sprintf("a value of %d bytes", len(tk.Value)), fmt.Sprintf("at most %d are allowed", maxScalar))
	}
	v.end = place{at.line, at.col + utf8.RuneCountInString(source)}
	return v
}

func (t *tree) mapping(n *ast.MappingNode) *node {
	v := &node{kind: mapping, flow: n.IsFlowStyle}
	v.start = tokenPlace(n.Start)
	if !n.IsFlowStyle && len(n.Values) > 0 {
		v.start = tokenPlace(n.Values[0].Key.GetToken())
	}
	v.lastLine = v.start.line
	for _, mv := range n.Values {
		p := pair{key: *t.scalar(mv.Key.GetToken())}
		if mv.Start != nil && mv.Start.Type == token.MappingValueType {
			p.colon = tokenPlace(mv.Start)
		}
		p.value = t.node(mv.Value)
		if p.value.kind == null && p.value.end == p.value.start {
			// An absent value has no place of its own: its key stands for it.
			p.value.start, p.value.end, p.value.lastLine = p.key.start, p.key.start, p.key.start.line
		}
		v.lastLine = max(v.lastLine, p.key.start.line, p.value.lastLine)
		v.pairs = append(v.pairs, p)
	}
	t.close(v, n.End)
	return v
}

func (t *tree) sequence(n *ast.SequenceNode) *node {
	v := &node{kind: sequence, flow: n.IsFlowStyle, start: tokenPlace(n.Start)}
	v.lastLine = v.start.line
	for _, item := range n.Values {
		c := t.node(item)
		v.lastLine = max(v.lastLine, c.lastLine)
		v.items = append(v.items, c)
	}
	t.close(v, n.End)
	return v
}

func (t *tree) close(v *node, end *token.Token) {
	if !v.flow || end == nil {
		return
	}
	v.end = tokenPlace(end)
	v.end.col++
	v.lastLine = max(v.lastLine, v.end.line)
}

// quote shows a value of the document in a message, cut if it is long.
func quote(s string) string {
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
