// Package directory holds the configuration of the whole enterprise: what
// Active Directory is to DFSR. It is one validated value, Domain: servers,
// replication groups with their topology, replicated folders and the
// memberships of servers in them.
//
// The text form is a YAML document, specified in docs/formats/domain.md. Read
// and Parse accept a document only as a whole: every error is collected, each
// with line, column and remedy, and there is no partly valid Domain. What is
// legal but unwise is a warning of the Document.
//
// Every object has an id, a UUID. A changed name under the same id is a
// rename; the same name under another id is another object. A document may
// leave ids out: Domain.Complete takes them from the domain before, by name,
// and draws the rest.
//
// A Domain is immutable once it is shared: change a Clone. Look-ups walk
// slices; they are for configuration changes and sessions, not for each update
// that replicates.
//
// Store is where a Domain lives: loaded, watched, and changed by
// compare-and-swap on its generation. File is the default: one server, the
// master, holds STATE/domain.yaml, and every member holds the newest signed
// copy of it in STATE/domain.copy (Signed). A copy is believed by its
// signature alone, so partners may relay it, and a member starts and
// replicates from it with the master gone. Memory is a Store without a disk.
//
// The package opens no sockets and reads no clock. Randomness is an io.Reader
// that the caller gives.
package directory
