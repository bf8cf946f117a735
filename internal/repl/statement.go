package repl

import "opendfs/internal/version"

// Statement is what a member of a folder says of itself, and partners pass on:
// it was there by its own clock's Stamp, its database was Originator, and what
// Covers holds was durable there. It is never more than the truth: a statement
// may leave out what its member knows. Of one member the greatest Stamp counts.
type Statement struct {
	Member     MemberID
	Originator version.Originator
	Stamp      Time
	Covers     version.Vector
}
