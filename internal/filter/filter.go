// Package filter says which names a replicated folder keeps out, by the two
// lists of wildcards that its administrator gives: one for files and links, one
// for directories ([MS-FRS2] 2.3.7 and product note <14>: files `~*`, `*.bak`
// and `*.tmp`, no directories, unless said otherwise).
//
// A pattern is matched against one name, never against a path; what lies below
// a directory that is kept out is kept out with it, which is the caller's to
// see to. `*` stands for any run of characters, an empty one too, and `?` for
// exactly one; nothing else is special, so that `*.*` wants a dot, as it does
// in DFSR. Letters are compared without regard to case by their simple upper
// case, one character for one, as NTFS does: `ß` is not `ss`. A byte that is
// not UTF-8 is a character that equals only itself. The table of upper cases is
// frozen (docs/formats/names.md): every version of the program judges alike.
//
// The verdict depends on the name and the lists alone, so that every member of
// a folder judges alike. The work of one verdict is bounded: at most
// MaxPatterns patterns of at most MaxPattern bytes, each matched in at most
// (length of the name) x (length of the pattern) steps.
//
// The same table folds the names of folders that compare them without regard to
// case as a whole (`case: insensitive`, what SMB clients expect): see Fold.
package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"opendfs/internal/repl"
)

// The limits on the lists of one folder.
const (
	MaxPatterns = 256 // patterns in a list
	MaxPattern  = 255 // bytes in a pattern: the longest name on Linux filesystems
)

// Rules are the two lists as the directory holds them. Nil and empty lists keep
// nothing out.
type Rules struct {
	Files       []string // for files and symbolic links
	Directories []string
}

// Defaults returns the rules of a folder for which none were given.
func Defaults() Rules { return Rules{Files: []string{"~*", "*.bak", "*.tmp"}} }

// ParseList reads the form in which DFSR and the command line write a list:
// patterns with commas between them, blanks around each ignored. The empty
// string is the empty list. The patterns themselves are judged by New.
func ParseList(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// FormatList is the inverse of ParseList.
func FormatList(list []string) string { return strings.Join(list, ",") }

// Set is a folder's rules made ready. It is immutable and may be shared. A nil
// Set keeps nothing out but private areas.
type Set struct {
	rules       Rules
	files, dirs []pattern
	longest     int // bytes in a name, 0 for any
}

// New makes rules ready. The error names the pattern, what is wrong with it and
// what to write instead.
func New(r Rules) (*Set, error) {
	s := &Set{rules: Rules{Files: slices.Clone(r.Files), Directories: slices.Clone(r.Directories)}}
	var err error
	if s.files, err = compileList("file filter", r.Files); err != nil {
		return nil, err
	}
	if s.dirs, err = compileList("directory filter", r.Directories); err != nil {
		return nil, err
	}
	return s, nil
}

// Within returns the set of a member whose disk holds names of at most n bytes:
// longer ones are kept out too.
func (s *Set) Within(n int) *Set {
	out := &Set{longest: n}
	if s != nil {
		out.rules, out.files, out.dirs = s.rules, s.files, s.dirs
	}
	return out
}

// TooLong reports whether this member's disk cannot hold a name.
func (s *Set) TooLong(name string) bool { return s != nil && s.longest > 0 && len(name) > s.longest }

// Longest is how many bytes a name may have on this member's disk, 0 if that was
// not said.
func (s *Set) Longest() int {
	if s == nil {
		return 0
	}
	return s.longest
}

// Rules returns what the set was made from. The slices are the caller's.
func (s *Set) Rules() Rules {
	if s == nil {
		return Rules{}
	}
	return Rules{Files: slices.Clone(s.rules.Files), Directories: slices.Clone(s.rules.Directories)}
}

// Covers reports whether the set plainly keeps out all that another one does: it has
// all the rules of that one, and room for no longer names.
func (s *Set) Covers(other *Set) bool {
	mine, its := s.Rules(), other.Rules()
	missing := func(mine, its []string) bool {
		return slices.ContainsFunc(its, func(rule string) bool { return !slices.Contains(mine, rule) })
	}
	longer := s.Longest() != other.Longest() && (s.Longest() == 0 || other.Longest() > 0 && s.Longest() > other.Longest())
	return !longer && !missing(mine.Files, its.Files) && !missing(mine.Directories, its.Directories)
}

// Empty reports whether the set has no patterns and any length of a name will do.
func (s *Set) Empty() bool { return s == nil || len(s.files)+len(s.dirs)+s.longest == 0 }

// Match reports whether the name of a directory, or of a file or link, is kept
// out of the folder. A directory named like a private area is kept out by every
// set, the nil one too: what lies in it belongs to the member of one tree.
func (s *Set) Match(name string, isDir bool) bool {
	if isDir && name == repl.PrivateName {
		return true
	}
	if s == nil {
		return false
	}
	if s.TooLong(name) {
		return true
	}
	list := s.files
	if isDir {
		list = s.dirs
	}
	if len(list) == 0 {
		return false
	}
	var room [MaxPattern + 1]rune
	folded := fold(room[:0], name)
	for i := range list {
		if list[i].match(folded) {
			return true
		}
	}
	return false
}

// MatchPath reports whether the object at a slash-separated path beneath the
// root is kept out, by its own name or by a directory above it. "." is never.
func (s *Set) MatchPath(path string, isDir bool) bool {
	if path == "." || path == "" {
		return false
	}
	for {
		name, rest, more := strings.Cut(path, "/")
		if !more {
			return s.Match(name, isDir)
		}
		if s.Match(name, true) {
			return true
		}
		path = rest
	}
}

func compileList(what string, list []string) ([]pattern, error) {
	if len(list) > MaxPatterns {
		return nil, fmt.Errorf("%s: %d patterns, at most %d are possible; join some with * or ?", what, len(list), MaxPatterns)
	}
	out := make([]pattern, 0, len(list))
	for i, text := range list {
		if slices.Contains(list[:i], text) {
			return nil, fmt.Errorf("%s: pattern %q stands there twice; remove one", what, text)
		}
		if err := check(text); err != nil {
			return nil, fmt.Errorf("%s: pattern %q %w", what, text, err)
		}
		out = append(out, compile(text))
	}
	return out, nil
}

// check says why text cannot be a pattern.
func check(text string) error {
	switch {
	case text == "":
		return fmt.Errorf("is empty; leave it out, or write * to keep every name out")
	case len(text) > MaxPattern:
		return fmt.Errorf("has %d bytes, but no name is longer than %d; shorten it", len(text), MaxPattern)
	case strings.ContainsAny(text, `/\`):
		return fmt.Errorf("holds a slash, but patterns match names and not paths; write the name alone")
	case strings.ContainsRune(text, ','):
		return fmt.Errorf("holds a comma, which separates patterns; write ? in its place")
	case !utf8.ValidString(text):
		return fmt.Errorf("is not UTF-8; write ? for each such byte")
	case strings.IndexFunc(text, unicode.IsControl) >= 0:
		return fmt.Errorf("holds a control character; write ? in its place")
	case strings.TrimSpace(text) != text:
		return fmt.Errorf("begins or ends with a blank; write ? in its place")
	}
	return nil
}
