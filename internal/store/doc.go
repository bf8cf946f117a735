// Package store is the member's database in our verbs: the ID records of its
// replicated folders, the vector, what was being installed, and the state that
// must survive a restart. docs/formats/records.md is its format.
//
// The logic stands on KV, a small ordered key-value interface with two
// implementations: Pebble on disk, and Memory for the simulator. Both run the
// very same record code.
//
// # Contract
//
// One Put is one step: records written by compare-and-swap, vector joined,
// intents added and cleared, state and counters, all in one atomic batch that
// is durable when Put returns (unless NoSync says otherwise). A refused batch
// changes nothing.
//
// A Folder reads what was written last, synced or not: it is for the member's
// own decisions. A Snapshot is one consistent view of durable state alone: it
// is for everything that a partner is told (rule 2).
//
// The store asserts what must be true whoever writes: a record never gets
// smaller in the order of updates, a version's fields never change, a version
// belongs to one object, a place holds one live object, a live object's parent
// is known. What breaks that is refused as an InvariantError.
//
// Errors: ErrCorrupt is damage of any kind; the caller closes, calls MoveAside
// and rebuilds. ErrNewer is state of a newer product. ErrInUse is another
// process on the same directory. Everything else is the disk's own error.
//
// The package decides no conflict, reads no tree and sees no clock.
package store
