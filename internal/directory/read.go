package directory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Document is a Domain with the text that it was read from. It does not
// change once it is made.
type Document struct {
	// Domain is valid. Ids that the text leaves out are zero in it.
	Domain *Domain
	// Warnings are about what is legal and unwise.
	Warnings Problems

	text []byte
	root *node
}

// Text is the document, comments included, with LF line ends. Do not change it.
func (doc *Document) Text() []byte { return doc.text }

// Parse reads a domain file. filename is for messages alone. The error is
// Problems, with everything that is wrong.
func Parse(data []byte, filename string) (*Domain, error) {
	doc, err := Read(data, filename)
	if err != nil {
		return nil, err
	}
	return doc.Domain, nil
}

// Read is Parse that keeps the text, to change it without losing its comments,
// and the warnings.
func Read(data []byte, filename string) (*Document, error) {
	text := normalize(data)
	root, problems := parseTree(text, filename)
	if len(problems) > 0 {
		problems.sort()
		return nil, problems
	}
	r := &reader{file: filename, nodes: make(map[string]*node), ids: make(map[UUID]string)}
	d := r.domain(root)
	r.check(d)
	if len(r.problems) > 0 {
		r.problems.sort()
		return nil, r.problems
	}
	d.sort()
	r.warnings.sort()
	return &Document{Domain: d, Warnings: r.warnings, text: text, root: root}, nil
}

// reader makes a Domain of a tree and collects what is wrong. It goes on after
// every error with a value that causes no other.
type reader struct {
	file               string
	problems, warnings Problems
	// nodes finds the node of a path, for the checks across objects.
	nodes map[string]*node
	// ids finds the path of the object that has an id.
	ids map[UUID]string
}

// bad reports an error at a node of the path.
func (r *reader) bad(n *node, path, what, remedy string) {
	r.problems = append(r.problems, r.problem(n, path, what, remedy))
}

// warn reports a warning at a node of the path.
func (r *reader) warn(n *node, path, what, remedy string) {
	r.warnings = append(r.warnings, r.problem(n, path, what, remedy))
}

func (r *reader) problem(n *node, path, what, remedy string) Problem {
	p := Problem{File: r.file, Path: path, What: what, Remedy: remedy}
	if n != nil {
		p.Line, p.Column = n.start.line, n.start.col
	}
	return p
}

// badErr reports an error of the form "operation value: what; remedy".
func (r *reader) badErr(n *node, path string, err error) {
	what, remedy, _ := strings.Cut(err.Error(), "; ")
	if _, after, ok := strings.Cut(what, " "); ok {
		what = after // without "read"
	}
	r.bad(n, path, what, remedy)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "/" + key
}

// fields reads a mapping with known keys. Each function reads its key's value.
func (r *reader) fields(n *node, path string, known map[string]func(n *node, path string)) {
	for _, p := range r.pairs(n, path) {
		read, ok := known[p.key.text]
		if !ok {
			keys := make([]string, 0, len(known))
			for k := range known {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			r.bad(&p.key, join(path, p.key.text), fmt.Sprintf("unknown key %s", quote(p.key.text)),
				"remove it, or use one of "+strings.Join(keys, ", ")+didYouMean(p.key.text, keys))
			continue
		}
		sub := join(path, p.key.text)
		r.nodes[sub] = p.value
		read(p.value, sub)
	}
}

// names reads a mapping whose keys are names that the administrator chose.
func (r *reader) names(n *node, path, what string, read func(name string, n *node, path string)) {
	for _, p := range r.pairs(n, path) {
		if !validName(p.key.text) {
			r.bad(&p.key, join(path, p.key.text), fmt.Sprintf("%s %s is not a name", what, quote(p.key.text)), nameRule)
			continue
		}
		sub := join(path, p.key.text)
		key := p.key
		r.nodes[sub] = &key
		read(p.key.text, p.value, sub)
	}
}

// pairs gives the pairs of a mapping; a key that stands there twice is
// reported and its first value taken. An absent value is an empty mapping.
func (r *reader) pairs(n *node, path string) []pair {
	if n.kind == null {
		return nil
	}
	if n.kind != mapping {
		r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), n.kind), "write keys with values: \"key: value\", indented beneath it")
		return nil
	}
	seen := make(map[string]int, len(n.pairs))
	list := make([]pair, 0, len(n.pairs))
	for _, p := range n.pairs {
		if line, twice := seen[p.key.text]; twice {
			r.bad(&p.key, join(path, p.key.text), fmt.Sprintf("key %s stands here twice, first on line %d", quote(p.key.text), line), "keep one of the two")
			continue
		}
		seen[p.key.text] = p.key.start.line
		list = append(list, p)
	}
	return list
}

func orDocument(path string) string {
	if path == "" {
		return "the document"
	}
	return quote(path[strings.LastIndexByte(path, '/')+1:])
}

// str reads a single value. An absent one is an error.
func (r *reader) str(n *node, path, example string) (string, bool) {
	if n.kind != scalar {
		r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), n.kind), "write a single value: "+example)
		return "", false
	}
	if strings.ContainsFunc(n.text, func(c rune) bool { return !unicode.IsGraphic(c) }) {
		r.bad(n, path, fmt.Sprintf("%s holds a control character", quote(n.text)), "remove it")
		return "", false
	}
	return n.text, true
}

// list reads a list of single values, or one single value as a list of one.
// each gets the node of every value.
func (r *reader) list(n *node, path string, most int, each func(s string, n *node, path string)) {
	items := n.items
	switch n.kind {
	case null:
	case scalar:
		items = []*node{n}
	case mapping:
		r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), n.kind), "write a list: [a, b]")
	}
	if len(items) > most {
		r.bad(n, path, fmt.Sprintf("%s has %d values", orDocument(path), len(items)), fmt.Sprintf("keep at most %d", most))
		return
	}
	for i, item := range items {
		sub := fmt.Sprintf("%s[%d]", path, i)
		r.nodes[sub] = item
		if s, ok := r.str(item, sub, "a word"); ok {
			each(s, item, sub)
		}
	}
}

func (r *reader) boolean(to *bool) func(*node, string) {
	return func(n *node, path string) {
		switch s, ok := r.str(n, path, "true or false"); {
		case !ok:
		case s == "true" && n.plain:
			*to = true
		case s == "false" && n.plain:
			*to = false
		default:
			r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), quote(s)), "write true or false")
		}
	}
}

func (r *reader) uint(to *uint64, least uint64) func(*node, string) {
	return func(n *node, path string) {
		s, ok := r.str(n, path, "a number")
		if !ok {
			return
		}
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil || v < least {
			r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), quote(s)), fmt.Sprintf("write a whole number from %d on", least))
			return
		}
		*to = v
	}
}

func (r *reader) size(to *Size, least Size) func(*node, string) {
	return func(n *node, path string) {
		s, ok := r.str(n, path, "4GiB")
		if !ok {
			return
		}
		v, err := ParseSize(s)
		if err != nil {
			r.badErr(n, path, err)
			return
		}
		if v < least {
			r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), quote(s)), fmt.Sprintf("write at least %v", least))
			return
		}
		*to = v
	}
}

// duration reads a duration from least to most; zero besides if it may be.
func (r *reader) duration(to *time.Duration, least, most time.Duration, zero bool) func(*node, string) {
	return func(n *node, path string) {
		s, ok := r.str(n, path, "60s")
		if !ok {
			return
		}
		v, err := ParseDuration(s)
		if err != nil {
			r.badErr(n, path, err)
			return
		}
		if (v < least || v > most) && (v != 0 || !zero) {
			r.bad(n, path, fmt.Sprintf("%s is %s", orDocument(path), quote(s)),
				fmt.Sprintf("write a duration from %s to %s", FormatDuration(least), FormatDuration(most)))
			return
		}
		*to = v
	}
}

// id reads the id of an object and sees to it that no other has it.
func (r *reader) id(to *UUID) func(*node, string) {
	return func(n *node, path string) {
		if n.kind == null {
			return // "id:" with nothing behind it is to be filled in
		}
		s, ok := r.str(n, path, "a UUID")
		if !ok {
			return
		}
		u, err := ParseUUID(s)
		if err != nil {
			r.badErr(n, path, err)
			return
		}
		if other, twice := r.ids[u]; twice {
			r.bad(n, path, fmt.Sprintf("id %q is that of %s too", u, other), "leave the id out where the object was copied; a new one is drawn")
			return
		}
		r.ids[u] = strings.TrimSuffix(strings.TrimSuffix(path, "id"), "/")
		if r.ids[u] == "" {
			r.ids[u] = "the domain"
		}
		*to = u
	}
}

const nameRule = "use 1 to 63 letters, digits, '.', '_' and '-', the first a letter or a digit"

// validName is the rule of names of domains, servers, groups and folders.
func validName(s string) bool {
	return len(s) <= 63 && plainWord(s) && isAlnum(s[0])
}
