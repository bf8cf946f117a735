// Package peer is the session between two members: who connects, proves who it
// is, asks, is answered, and how both notice that the other is gone
// (docs/formats/wire.md). What is said comes from outside: a Handler answers,
// an Authorizer says which folders a partner may ask for.
//
// The member that dials is the downstream and the only one that asks. A Session
// is one control connection and up to 4 data connections, opened when content
// is first asked for; a Partner keeps a Session up. A Server answers any number
// of partners, each within bounds that no partner can exceed: requests, content
// streams, connections, memory.
//
// A stalled reader of content stops its own stream by credit, never its
// connection. A connection that is silent for Timing.Dead is closed by either
// side. All goroutines end before Run, Serve and Close return.
//
// The package stores nothing, decides nothing about updates and never trusts
// what a partner says beyond its certificate; hashes are checked by the caller.
package peer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"opendfs/internal/pki"
	"opendfs/internal/repl"
	"opendfs/internal/version"
	"opendfs/internal/wire"
)

// The bounds of what one partner may have in flight at a server.
const (
	maxRequests    = 64
	maxWaits       = 1024
	maxContents    = 16
	maxConnections = 16
	maxHeaders     = 20 << 20 // bytes of request headers above bigHeader
	bigHeader      = 64 << 10
	maxHandshakes  = 256
	maxFromOne     = 16 // handshakes at once from one address
)

// What one session asks for at most: below the server's bounds, so that a
// request whose cancellation is still under way there does not count against
// the next one.
const (
	askRequests = 48
	askContents = 12
	dataLinks   = 4
	slowRate    = 16_000_000 // bits per second: below it one data connection has to do
)

// Content flow, in bytes.
const (
	contentFrame = 256 << 10 // body of a Content frame
	minWindow    = 1 << 20   // credit of a stream at least
	maxWindow    = 16 << 20  // and at most
	allWindows   = 32 << 20  // credit of all streams to one partner
	socketBuffer = 16 << 20
)

// ErrChanged is the end of a content whose object changed while it was sent:
// what was read must be thrown away.
var ErrChanged = errors.New("the content changed while it was sent")

// ErrClosed is the error of a session that this side has closed.
var ErrClosed = errors.New("session is closed")

// errNotServed is one error for what is not granted and what does not exist.
func errNotServed(folder repl.FolderID) error {
	return wire.Errorf(wire.CodeNotServed, "folder %v is not served to this member: the domain file names no connection for it", folder)
}

// Timing are the protocol's times; zero fields mean those of
// docs/formats/wire.md.
type Timing struct {
	Handshake  time.Duration // TLS and Hello, 10 s
	Connect    time.Duration // TCP connect to one address, 5 s
	Ping       time.Duration // between two, 5 s
	Dead       time.Duration // silence that ends a connection, 15 s
	Poll       time.Duration // how long an answer is held back for news, 30 s
	BackoffMin time.Duration // before a Partner's first new attempt, 1 s
	BackoffMax time.Duration // and at most, 60 s
}

func (t Timing) orDefaults() Timing {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&t.Handshake, 10*time.Second)
	or(&t.Connect, 5*time.Second)
	or(&t.Ping, 5*time.Second)
	or(&t.Dead, 15*time.Second)
	or(&t.Poll, 30*time.Second)
	or(&t.BackoffMin, time.Second)
	or(&t.BackoffMax, time.Minute)
	return t
}

// Config is what a member's server and its sessions share.
type Config struct {
	Identity *pki.Identity
	// Revoked reports whether a server's identity is withdrawn; nil: none is.
	Revoked func(repl.MemberID) bool
	// Product is this program's version, for people.
	Product string
	// Generation returns term and generation of this member's domain file; nil: 0, 0.
	Generation func() (term, generation uint64)
	// Now is this member's clock; nil: time.Now.
	Now func() time.Time
	// Meter counts bytes; nil: nobody asks.
	Meter *Meter
	// Sent is told of bytes that a session has sent a partner, as they are at the
	// interface, now and then while something moves; for which folder, zero if that is
	// not known. It must not block. Nil: nobody asks.
	Sent func(partner repl.MemberID, folder repl.FolderID, n int)
	// Log gets what no caller is told; nil: slog.Default.
	Log    *slog.Logger
	Timing Timing
}

func (c Config) orDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Meter == nil {
		c.Meter = NewMeter()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Generation == nil {
		c.Generation = func() (uint64, uint64) { return 0, 0 }
	}
	c.Timing = c.Timing.orDefaults()
	return c
}

func (c *Config) policy() pki.Policy { return pki.Policy{Now: c.Now, Revoked: c.Revoked} }

func (c *Config) clock() repl.Time { return repl.Time(c.Now().UnixNano()) }

func (c *Config) hello(role wire.Role) *wire.Hello {
	term, generation := c.Generation()
	return &wire.Hello{
		Min: wire.OldestProtocol, Max: wire.Protocol, Member: c.Identity.Member(), Domain: c.Identity.Domain(),
		Product: c.Product, Term: term, Generation: generation, Clock: c.clock(), Role: role,
	}
}

// Handler answers what partners ask. It is called from many goroutines; ctx
// ends when the partner is gone, cancels, or the server stops. An error that
// is a *wire.Error is sent as it is, any other as wire.CodeInternal with its
// text. Which folders a partner may name was checked before.
type Handler interface {
	// Diff answers at once, from one snapshot. The page must not be changed
	// after it was returned.
	Diff(ctx context.Context, partner repl.MemberID, req *wire.DiffRequest) (*wire.DiffPage, error)
	// Changed returns a channel that is closed when the folder's vector next
	// grows. It is asked before Diff, so that no change is missed.
	Changed(folder repl.FolderID) (<-chan struct{}, error)
	// Records returns the current records of the first UIDs, at least of one.
	Records(ctx context.Context, partner repl.MemberID, folder repl.FolderID, uids []repl.UID) (*wire.RecordsReply, error)
	// Content opens what one item names. With another status than ok there is
	// no source.
	Content(ctx context.Context, partner repl.MemberID, folder repl.FolderID, item wire.ContentItem) (ContentSource, wire.Status)
	// Rdc answers a question about the signature or the grains of a content; an
	// error with wire.CodeUnavailable says that the content has moved on.
	Rdc(ctx context.Context, partner repl.MemberID, req *wire.RdcRequest) ([]byte, error)
	// Barrier drains the journal, commits what it finds, and returns the vector.
	Barrier(ctx context.Context, partner repl.MemberID, folder repl.FolderID) (version.Vector, error)
	// Cover takes what a partner has heard that members of the folder cover, and
	// returns what this member has.
	Cover(ctx context.Context, partner repl.MemberID, folder repl.FolderID, heard []repl.Statement) ([]repl.Statement, error)
	// Compare answers with runs of records, or with records one by one.
	Compare(ctx context.Context, partner repl.MemberID, req *wire.CompareRequest) (*wire.CompareReply, error)
	// Status says how this member stands with the folder.
	Status(ctx context.Context, partner repl.MemberID, folder repl.FolderID) (*wire.StatusReply, error)
	// Directory returns the signed domain file if it is newer than the one
	// asked about, else a copy without bytes.
	Directory(ctx context.Context, partner repl.MemberID, term, generation uint64) (*wire.DirectoryCopy, error)
	// DirectoryChanged returns a channel that is closed when there is a newer
	// domain file.
	DirectoryChanged() <-chan struct{}
}

// ContentSource is one version's content while it is sent. It is used by one
// goroutine.
type ContentSource interface {
	// Read yields the bytes that the item asks for, in the form that Head says.
	// Fewer bytes mean that it changed.
	io.Reader
	// Head is what is said before the bytes; its status is ok.
	Head() wire.Head
	// Close ends the reading; it is called once. Nil says that all that was
	// read belongs to the version asked for (rule 24), an error that it may not.
	Close() error
}

// Authorizer reports whether the directory lets downstream ask for folder. It
// is asked for each request and must not block.
type Authorizer func(folder repl.FolderID, downstream repl.MemberID) bool

// toWire makes what is told to a partner out of an error.
func toWire(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return wire.Errorf(wire.CodeUnavailable, "the request ended before it was answered")
	}
	return wire.Errorf(wire.CodeInternal, "%v", err)
}
