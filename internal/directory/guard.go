package directory

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

const (
	maxDepth = 16    // of brackets; the deepest valid document has 5
	maxKeys  = 10000 // beside each other; the parser's time is their square
)

// guard refuses, before the parser sees it, YAML that a domain file has no use
// for, and YAML that is broken in a way on which the parser spends time or
// stack in no proportion to the text.
type guard struct {
	*tree
	opened []int // the lines of the open brackets
	// valued is the line in which a ':' may not follow, because a value stands
	// there already: the parser would take each for a deeper level.
	valued int
	// levels are the open levels of indentation, columns rising.
	levels []level
	// begun and ended tell of the one document: the parser drops what follows
	// an empty one.
	begun, ended bool
	scalars      int // keys and values seen
}

type level struct{ col, keys int }

// check reports the first thing that is refused.
func (g *guard) check(tokens token.Tokens) {
	for _, tk := range tokens {
		if what, remedy := g.refuse(tk); what != "" {
			g.report(tk, what, remedy)
			return
		}
	}
}

func (g *guard) refuse(tk *token.Token) (what, remedy string) {
	if tk.Type == token.CommentType {
		return "", ""
	}
	if g.ended || g.begun && tk.Type == token.DocumentHeaderType {
		return "a second document begins here", "keep one document in the file, without '---' or '...' between"
	}
	g.begun, g.ended = true, tk.Type == token.DocumentEndType
	line := tokenPlace(tk).line
	switch tk.Type {
	case token.InvalidType:
		return "the YAML is broken: " + tk.Error, "correct it; values with special characters stand in double quotes"
	case token.AnchorType, token.AliasType, token.TagType, token.DirectiveType, token.MergeKeyType:
		return fmt.Sprintf("%s: anchors, aliases, tags and merges are not used in a domain file", quote(tk.Value)),
			`write the value out; a pattern stands in quotes: "*.bak"`
	case token.LiteralType, token.FoldedType, token.MappingKeyType:
		return fmt.Sprintf("%s begins a block that is not used in a domain file", quote(tk.Value)), "write the value on the line of its key"
	case token.SequenceEntryType:
		if tk.Prev != nil && tk.Prev.Type == token.SequenceEntryType {
			return "a list in a list", "write one '-' for each value"
		}
	case token.StringType, token.BoolType, token.NullType, token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType,
		token.HexIntegerType, token.FloatType, token.InfinityType, token.NanType:
		g.scalars++
	case token.SingleQuoteType, token.DoubleQuoteType:
		g.scalars++
		if p := tk.Prev; p != nil && tokenPlace(p).line == line && (p.Type == token.SingleQuoteType || p.Type == token.DoubleQuoteType) {
			return "a second value follows a value", "write several values as a list: [a, b]"
		}
	case token.MappingValueType:
		return g.key(tk, line)
	case token.SequenceStartType, token.MappingStartType:
		g.valued = 0
		if g.opened = append(g.opened, line); len(g.opened) > maxDepth {
			return fmt.Sprintf("brackets are nested deeper than %d", maxDepth), "remove the needless brackets"
		}
	case token.SequenceEndType, token.MappingEndType:
		g.opened = g.opened[:max(len(g.opened)-1, 0)]
		g.valued = line
	case token.CollectEntryType:
		g.valued = 0
	}
	return "", ""
}

// key looks at the ':' behind a key.
func (g *guard) key(tk *token.Token, line int) (what, remedy string) {
	inside := len(g.opened) > 0
	if g.valued != 0 && inside {
		return "a ',' or a closing bracket is missing before this key", fmt.Sprintf("look at the bracket that line %d opens", g.opened[len(g.opened)-1])
	}
	if line == g.valued {
		return "a second ':' follows a value", "write one key on a line, and values with a colon in double quotes"
	}
	g.valued = line
	if inside {
		return "", ""
	}
	col := tokenPlace(tk.Prev).col
	for len(g.levels) > 0 && g.levels[len(g.levels)-1].col > col {
		g.levels = g.levels[:len(g.levels)-1]
	}
	if len(g.levels) == 0 || g.levels[len(g.levels)-1].col < col {
		g.levels = append(g.levels, level{col: col})
	}
	top := &g.levels[len(g.levels)-1]
	if top.keys++; top.keys > maxKeys {
		return fmt.Sprintf("more than %d keys stand beside each other", maxKeys), "split the domain"
	}
	return "", ""
}
