package directory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems is how many problems of one document are reported.
const maxProblems = 100

// Problem is one error or warning of a document.
type Problem struct {
	File         string
	Line, Column int    // from 1; 0 when the document as a whole is meant
	Path         string // the keys that lead there: servers/hub/address
	What         string // what is the matter, naming the key or value
	Remedy       string // what to write instead
}

// String is the problem in one line: FILE:LINE:COLUMN: WHAT; REMEDY.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d", s, p.Line, p.Column)
	}
	return s + ": " + p.What + "; " + p.Remedy
}

// Problems are all errors of a document in the order of its lines. It is the
// error that Parse and Read return for what the document says.
type Problems []Problem

// Error gives one line for each problem.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i == maxProblems {
			fmt.Fprintf(&b, "\n%s: %d more problems; correct these first", p.File, len(ps)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// didYouMean gives " (did you mean …?)" when one of the words is near.
func didYouMean(word string, words []string) string {
	best, at := "", 1+min(len(word), 64)/3
	for _, w := range words {
		if n := distance(strings.ToLower(word), strings.ToLower(w), at); n < at || n == at && best == "" {
			best, at = w, n
		}
	}
	if best == "" || best == word {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the Levenshtein distance of two words; anything above limit may
// be given as limit+1.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 128 || len(b) > 128 {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			step := diag
			if a[i] != b[j] {
				step++
			}
			diag = row[j+1]
			row[j+1] = min(step, diag+1, row[j]+1)
		}
	}
	return row[len(b)]
}
