package repl

import "opendfs/internal/version"

// Statement is what a member of a folder says of itself, and partners pass on:
// it was there by its own clock's Stamp, its database was Database, and what
// Covers holds was durable there. A database is named by the originator that it
// began with, whatever others it has minted under since. It is never more than the truth: a statement
// may leave out what its member knows. Of one member the greatest Stamp counts.
type Statement struct {
	Member   MemberID
	Database version.Originator
	Stamp    Time
	Covers   version.Vector
}
