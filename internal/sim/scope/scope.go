// Package scope tries everything that users of a few members can do in a few
// steps with a few names, and everything that can become of it on the way:
// the small scope, in which nearly every mistake of a law of conflicts shows.
//
// What runs is the members' own code: package capture finds on a tree what a
// user did, repl mints it, merge makes the verdict on what partners send. Light
// are only the tree, the records and the exchange: a few structs in memory, so
// that a whole history with all its deliveries takes some microseconds. The
// plans of merge are carried out on the tree change by change, and each change
// must find what an install would have to find.
//
// # What is tried
//
// Acts (act.go): create, edit, delete, rename, swap, rename over, create anew as
// another type, mkdir, move a directory, delete one with all in it, chmod; all of
// them wherever the tree allows. Of acts that have nothing to do with each other
// one order is tried, of names and members that only differ by name one choice.
//
// Folders (Law): names that are told apart byte by byte, or folded; directories of
// one name that are merged, or of which one is renamed; deleted objects that come
// back to life when their name is made again, or do not.
//
// Apart (Apart): members act without hearing of each other, then meet. Between
// (Between): between any two acts a member may hear all, or the beginning of all,
// that another one has.
//
// How they meet (Delivery): who asks first, or both at once; a diff in one piece,
// in pieces of one in every order, or broken off.
//
// # What is checked
//
// After every change: a record is greater than what it replaces (rules 5, 6), no
// UID changes its type and no loser of a name comes back (7), heirs ascend (8),
// what a winner had not seen is kept (10), every live object has one place and a
// live directory, there is no ring (11), and disk and records agree. After every
// exchange: the vector is sound (1) and one GVSN is one update (3). At rest:
// vectors, records and trees are equal, every content that a user wrote is live,
// kept, or was replaced by a user who had it (10), and a walk finds nothing new.
// Where what the members did has nothing to do with each other, the tree is the
// one that a single user would have made, nothing was minted and nothing kept.
package scope

import (
	"fmt"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

var (
	folderID = repl.FolderID{0xf0}
	rootUID  = repl.RootUID(folderID)
)

// The contents that a history can have: a few of the start and a few for each
// member. A content is its number, a set of contents is a word.
const (
	contentsEach = 12
	maxContents  = 64
)

type contents uint64

func (c contents) has(n uint8) bool { return c>>n&1 == 1 }

func (c *contents) add(n uint8) { *c |= 1 << n }

// tables are the values that contents, modes and identities stand for.
var tables = func() (t struct {
	text   [maxContents]string
	hash   [maxContents]repl.Hash
	number map[repl.Hash]uint8
	meta   [256][]byte
	handle [256]string
}) {
	t.number = make(map[repl.Hash]uint8)
	for i := range t.text {
		t.text[i] = fmt.Sprintf("content-%02d", i)
		t.hash[i] = capture.HashTarget(t.text[i])
		t.number[t.hash[i]] = uint8(i)
	}
	for i := range t.meta {
		t.meta[i] = []byte{byte(i)}
		t.handle[i] = fmt.Sprintf("object-%d", i)
	}
	return t
}()

// Clock says how the clocks of members stand to one another.
type Clock struct {
	Base, Step repl.Time
}

// now is the time of a member's n-th act.
func (c Clock) now(n int) repl.Time { return c.Base + c.Step*repl.Time(n) }

// originator is that of the member with that number; the start has 0.
func originator(n int) version.Originator { return version.Originator{byte('@' + n)} }
