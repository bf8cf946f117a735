package filter

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// The characters of a compiled pattern that stand for others. They lie outside
// Unicode, so that no character of a name equals them.
const (
	one rune = -1 // ?
	run rune = -2 // *
	// stray + b stands for the byte b where a name is not UTF-8.
	stray rune = unicode.MaxRune + 1
)

// pattern is a folded pattern, its runs of * made one. Most patterns have one
// star at an end, which needs no search.
type pattern []rune

func compile(text string) pattern {
	p := pattern(fold(nil, text))
	for i, r := range p {
		switch r {
		case '?':
			p[i] = one
		case '*':
			p[i] = run
		}
	}
	return slices.CompactFunc(p, func(a, b rune) bool { return a == run && b == run })
}

// match compares a pattern with a folded name. After a star everything is tried
// from where the last star stood on: earlier stars never need another try.
func (p pattern) match(name []rune) bool {
	i, j := 0, 0
	star, from := -1, 0
	for j < len(name) {
		switch {
		case i < len(p) && p[i] == run:
			star, from = i, j
			i++
		case i < len(p) && (p[i] == one || p[i] == name[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == run {
		i++
	}
	return i == len(p)
}

// fold appends the simple upper case of name, character by character.
func fold(out []rune, name string) []rune {
	for i := 0; i < len(name); {
		b := name[i]
		if b < utf8.RuneSelf {
			if 'a' <= b && b <= 'z' {
				b -= 'a' - 'A'
			}
			out = append(out, rune(b))
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 {
			r = stray + rune(b)
		} else {
			r = upper(r)
		}
		out = append(out, r)
		i += n
	}
	return out
}
