package directory

import (
	"bytes"
	"cmp"
	"io"
	"reflect"
	"slices"
	"strings"
)

// With gives a document that says d in the text of doc: what is the same stays
// as it was written, comments, order and layout included; what differs is
// changed in its place. Where the text cannot be changed in place (an object
// that moved between two forms of writing it) the canonical text is taken,
// without comments. The domain is validated as a whole; the error is Problems
// that refer to the new text.
func (doc *Document) With(d *Domain) (*Document, error) {
	canonicalDoc, err := NewDocument(d)
	if err != nil {
		return nil, err
	}
	text, ok := rewrite(doc, d)
	if !ok {
		return canonicalDoc, nil
	}
	// The text is believed only if it reads back as the domain that was meant.
	edited, err := Read(text, "domain")
	if err != nil || !edited.Domain.Equal(d) {
		return canonicalDoc, nil //nolint:nilerr // the canonical text is the answer then
	}
	return edited, nil
}

// Complete gives the document with every id that it leaves out. prior is the
// domain that it replaces, nil if there is none. See Domain.Complete.
func (doc *Document) Complete(prior *Domain, rand io.Reader) (*Document, error) {
	d, err := doc.Domain.Complete(prior, rand)
	if err != nil {
		return nil, err
	}
	return doc.With(d)
}

// edit replaces the bytes [from, to) of a text.
type edit struct {
	from, to int
	text     string
}

type editor struct {
	text  []byte
	lines []int // offset of each line; lines[0] is that of line 1
	edits []edit
}

// rewrite edits the text of doc into one that should say d.
func rewrite(doc *Document, d *Domain) ([]byte, bool) {
	e := &editor{text: doc.text, lines: []int{0}}
	for i, c := range doc.text {
		if c == '\n' {
			e.lines = append(e.lines, i+1)
		}
	}
	e.mapping(doc.root, canonical(doc.Domain), canonical(d))
	return e.apply()
}

// offset gives the byte where a place is.
func (e *editor) offset(p place) int {
	if p.line < 1 || p.line > len(e.lines) {
		return len(e.text)
	}
	at := e.lines[p.line-1]
	for i := range string(e.text[at:e.lineEnd(p.line)]) {
		if p.col--; p.col == 0 {
			return at + i
		}
	}
	return e.lineEnd(p.line)
}

// lineEnd gives the offset of the line's '\n', or of the end of the text.
func (e *editor) lineEnd(line int) int {
	if line < len(e.lines) {
		return e.lines[line] - 1
	}
	return len(e.text)
}

// mapping edits the mapping src, which says was, so that it says want. Keys
// that neither names are explicit defaults and stay.
func (e *editor) mapping(src, was, want *node) {
	if src.flow && len(missing(was, want)) > 0 {
		e.replace(src, want)
		return
	}
	for _, key := range missing(was, want) {
		e.remove(src, key)
	}
	before := -1 // the pair of src behind which a new one goes
	for _, p := range want.pairs {
		i := slices.IndexFunc(src.pairs, func(q pair) bool { return q.key.text == p.key.text })
		if i < 0 {
			e.insert(src, before, p)
			continue
		}
		before = i
		old, now := was.get(p.key.text), src.pairs[i].value
		switch {
		case reflect.DeepEqual(old, p.value):
		case now.kind == null:
			e.fill(src.pairs[i], p.value)
		case now.kind == mapping && p.value.kind == mapping && old != nil && old.kind == mapping:
			e.mapping(now, old, p.value)
		case now.kind == scalar || now.flow:
			e.replace(now, p.value)
		default:
			e.remove(src, p.key.text)
			e.insert(src, i, p)
		}
	}
}

// missing gives the keys of was that want does not have.
func missing(was, want *node) []string {
	var keys []string
	for _, p := range was.pairs {
		if want.get(p.key.text) == nil {
			keys = append(keys, p.key.text)
		}
	}
	return keys
}

func (e *editor) splice(from, to int, text string) {
	e.edits = append(e.edits, edit{from, to, text})
}

// replace writes v in the place of a scalar or a flow collection.
func (e *editor) replace(n, v *node) {
	var b strings.Builder
	emitFlow(&b, v)
	e.splice(e.offset(n.start), e.offset(n.end), b.String())
}

// fill writes the value of a pair that has none.
func (e *editor) fill(p pair, v *node) {
	if p.value.end != p.value.start { // "null" or "~"
		e.replace(p.value, v)
		return
	}
	var b strings.Builder
	b.WriteByte(' ')
	emitFlow(&b, v)
	at := p.colon
	at.col++
	e.splice(e.offset(at), e.offset(at), b.String())
}

// remove takes a pair with all its lines out of a block mapping.
func (e *editor) remove(src *node, key string) {
	for _, p := range src.pairs {
		if p.key.text == key {
			end := min(e.lineEnd(p.value.lastLine)+1, len(e.text))
			e.splice(e.lines[p.key.start.line-1], end, "")
		}
	}
}

// insert writes a new pair behind the pair with the index before, or ahead of
// all for -1.
func (e *editor) insert(src *node, before int, p pair) {
	var b strings.Builder
	if src.flow {
		emitFlowPair(&b, p)
		e.insertFlow(src, before, b.String())
		return
	}
	indent := src.start.col - 1
	emitPair(&b, p, indent)
	if before < 0 {
		e.splice(e.lines[src.start.line-1], e.lines[src.start.line-1], b.String())
		return
	}
	end := e.lineEnd(src.pairs[before].value.lastLine)
	if end == len(e.text) {
		e.splice(end, end, "\n"+strings.TrimSuffix(b.String(), "\n"))
		return
	}
	e.splice(end+1, end+1, b.String())
}

func (e *editor) insertFlow(src *node, before int, text string) {
	if before >= 0 {
		at := e.offset(src.pairs[before].value.end)
		e.splice(at, at, ", "+text)
		return
	}
	open := src.start
	open.col++
	at := e.offset(open)
	if len(src.pairs) > 0 {
		text += ", "
	} else if len(e.edits) > 0 && e.edits[len(e.edits)-1].from == at && e.edits[len(e.edits)-1].to == at {
		text = ", " + text // another new pair stands before it already
	}
	e.splice(at, at, text)
}

// apply makes the edits. Edits at one offset stay in the order in which they
// were made; edits that overlap cannot be made.
func (e *editor) apply() ([]byte, bool) {
	slices.SortStableFunc(e.edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) // what is new goes ahead of what goes away
	})
	var out bytes.Buffer
	at := 0
	for _, ed := range e.edits {
		if ed.from < at || ed.to < ed.from {
			return nil, false
		}
		out.Write(e.text[at:ed.from])
		out.WriteString(ed.text)
		at = ed.to
	}
	out.Write(e.text[at:])
	return out.Bytes(), true
}
