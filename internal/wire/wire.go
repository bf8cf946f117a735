// Package wire is the replication protocol as bytes: frames, messages, limits
// (docs/formats/wire.md). It knows no socket, no session and no store.
//
// A frame is a fixed prefix, a protobuf header and, for content, a raw body.
// Each Type has one Message, its limits and its body rule in one table. What
// Decode returns is valid in itself: every identifier is whole, every count is
// within its limit, every update passes repl.Update.Check. What it means,
// whether it was asked for and whether its sender may say it is judged by
// package peer and by those who handle it.
//
// Generated types never leave this package.
package wire

import (
	"fmt"

	"opendfs/internal/rdc"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// The protocol versions that this program speaks: N and, once there is one, N-1.
const (
	Protocol       = 1
	OldestProtocol = 1
)

// The limits of the protocol, in bytes or counts.
const (
	MaxBody      = 1 << 20 // raw bytes of a frame
	MaxPage      = 4 << 20 // encoded updates of a page
	MaxUpdates   = 4096    // updates in a page
	MaxUIDs      = 4096    // UIDs in a RecordsRequest
	MaxItems     = 4096    // items in a ContentRequest, parts in a Content frame
	MaxSeeds     = rdc.MaxSeeds
	MaxNamed     = 8192      // seeds in a ContentRequest
	MaxRanges    = 16384     // ranges in a ContentRequest
	MaxGrains    = 192 << 10 // bytes of grains in a ContentRequest
	MaxNeeds     = 4 << 20   // needs before new bytes
	MaxOffer     = 64        // an offer of rdc
	MaxSnapshot  = 64        // a snapshot token
	MaxText      = 1 << 10   // an error's text
	MaxProduct   = 64        // a product version
	MaxAddresses = 16        // addresses of one server
	MaxAddress   = 255       // one address
	MaxDirectory = 16 << 20  // a signed domain file
	MaxRequest   = 16 << 10
	MaxMembers   = 1024     // statements in a CoverRequest or CoverReply
	MaxCovers    = 64 << 10 // the vector of one of them
	MaxCover     = 4 << 20  // all of them
	MaxRuns      = 256      // runs in a CompareReply
	MaxEntries   = 4096     // entries in a CompareReply
	// FrameCost is what each Content frame costs of the credit beside its body.
	FrameCost = 512

	maxVector = version.MaxVectorBytes
	small     = 4 << 10
)

// Type says what a frame is.
type Type uint8

// The types of frames.
const (
	TypeHello          Type = 1
	TypeError          Type = 2
	TypePing           Type = 3
	TypePong           Type = 4
	TypeCredit         Type = 5
	TypeCancel         Type = 6
	TypePace           Type = 7
	TypeDiffRequest    Type = 10
	TypeDiffPage       Type = 11
	TypeRecordsRequest Type = 12
	TypeRecordsReply   Type = 13
	TypeContentRequest Type = 14
	TypeContent        Type = 15
	TypeBarrierRequest Type = 16
	TypeBarrierReply   Type = 17
	TypeStatusRequest  Type = 18
	TypeStatusReply    Type = 19
	TypeDirectoryGet   Type = 20
	TypeDirectoryCopy  Type = 21
	TypeRenewRequest   Type = 22
	TypeRenewReply     Type = 23
	TypeRdcRequest     Type = 24
	TypeRdcReply       Type = 25
	TypeCoverRequest   Type = 26
	TypeCoverReply     Type = 27
	TypeCompareRequest Type = 28
	TypeCompareReply   Type = 29
	TypeJoinRequest    Type = 30
	TypeJoinReply      Type = 31
)

// kind is one row of the protocol's table.
type kind struct {
	name      string
	maxHeader int
	maxBody   int
	fresh     func() Message
}

var kinds = map[Type]kind{
	TypeHello:          {"Hello", small, 0, func() Message { return new(Hello) }},
	TypeError:          {"Error", small, 0, func() Message { return new(Error) }},
	TypePing:           {"Ping", small, 0, func() Message { return new(Ping) }},
	TypePong:           {"Pong", small, 0, func() Message { return new(Pong) }},
	TypeCredit:         {"Credit", small, 0, func() Message { return new(Credit) }},
	TypeCancel:         {"Cancel", 0, 0, func() Message { return new(Cancel) }},
	TypePace:           {"Pace", small, 0, func() Message { return new(Pace) }},
	TypeDiffRequest:    {"DiffRequest", 3*maxVector + small, 0, func() Message { return new(DiffRequest) }},
	TypeDiffPage:       {"DiffPage", 2*maxVector + MaxPage + small, 0, func() Message { return new(DiffPage) }},
	TypeRecordsRequest: {"RecordsRequest", 256 << 10, 0, func() Message { return new(RecordsRequest) }},
	TypeRecordsReply:   {"RecordsReply", maxVector + MaxPage + 256<<10, 0, func() Message { return new(RecordsReply) }},
	TypeContentRequest: {"ContentRequest", 512 << 10, 0, func() Message { return new(ContentRequest) }},
	TypeContent:        {"Content", 512 << 10, MaxBody, func() Message { return new(Content) }},
	TypeBarrierRequest: {"BarrierRequest", small, 0, func() Message { return new(BarrierRequest) }},
	TypeBarrierReply:   {"BarrierReply", maxVector + small, 0, func() Message { return new(BarrierReply) }},
	TypeStatusRequest:  {"StatusRequest", small, 0, func() Message { return new(StatusRequest) }},
	TypeStatusReply:    {"StatusReply", maxVector + small, 0, func() Message { return new(StatusReply) }},
	TypeDirectoryGet:   {"DirectoryGet", small, 0, func() Message { return new(DirectoryGet) }},
	TypeDirectoryCopy:  {"DirectoryCopy", MaxDirectory + small, 0, func() Message { return new(DirectoryCopy) }},
	TypeRenewRequest:   {"RenewRequest", 64 << 10, 0, func() Message { return new(RenewRequest) }},
	TypeRenewReply:     {"RenewReply", 64 << 10, 0, func() Message { return new(RenewReply) }},
	TypeRdcRequest:     {"RdcRequest", 128 << 10, 0, func() Message { return new(RdcRequest) }},
	TypeRdcReply:       {"RdcReply", rdc.MaxReply + small, 0, func() Message { return new(RdcReply) }},
	TypeCoverRequest:   {"CoverRequest", MaxCover + small, 0, func() Message { return new(CoverRequest) }},
	TypeCoverReply:     {"CoverReply", MaxCover + small, 0, func() Message { return new(CoverReply) }},
	TypeCompareRequest: {"CompareRequest", small, 0, func() Message { return new(CompareRequest) }},
	TypeCompareReply:   {"CompareReply", maxVector + 512<<10, 0, func() Message { return new(CompareReply) }},
	TypeJoinRequest:    {"JoinRequest", 64 << 10, 0, func() Message { return new(JoinRequest) }},
	TypeJoinReply:      {"JoinReply", MaxDirectory + 256<<10, 0, func() Message { return new(JoinReply) }},
}

// String returns the type's name in docs/formats/wire.md.
func (t Type) String() string {
	if k, ok := kinds[t]; ok {
		return k.name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Phase is where a member stands with a folder, as it tells its partners.
type Phase uint8

// The phases. Only a member in PhaseNormal serves updates of its own.
const (
	PhaseUnknown Phase = iota
	PhaseInitialBuild
	PhaseInitialSync
	PhaseNormal
	PhaseRecovery
	PhaseStopped
	phases
)

// String returns the phase's name as `dfs status` prints it.
func (p Phase) String() string {
	return [...]string{"unknown", "initial build", "initial sync", "normal", "recovery", "stopped", "?"}[min(p, phases)]
}

// Status says what became of one item of a ContentRequest.
type Status uint8

// The statuses of content.
const (
	StatusOK      Status = iota // bytes follow, or what came is whole
	StatusChanged               // the object is no longer that version; what came must be thrown away
	StatusAbsent                // the upstream does not have it
	StatusBusy                  // not now; ask later
	StatusError                 // it cannot be read there
	StatusHidden                // a filter, its disk or a mount keeps the object out of its sight; it or others may have it
	statuses
)

// String returns the status in a word.
func (s Status) String() string {
	return [...]string{"ok", "changed", "absent", "busy", "error", "hidden", "?"}[min(s, statuses)]
}

// Code says why a request or a connection ended without an answer.
type Code uint32

// The codes of Error.
const (
	CodeProtocol      Code = 1
	CodeVersion       Code = 2
	CodeIdentity      Code = 3
	CodeNotServed     Code = 4
	CodeBusy          Code = 5
	CodeUnavailable   Code = 6
	CodeSnapshotGone  Code = 7
	CodeInternal      Code = 8
	CodeStale         Code = 9
	CodeRetired       Code = 10
	CodeTokenWrong    Code = 20
	CodeTokenExpired  Code = 21
	CodeTokenUsed     Code = 22
	CodeClock         Code = 23
	CodeUnknownServer Code = 24
)

var codeNames = map[Code]string{
	CodeProtocol: "protocol", CodeVersion: "version", CodeIdentity: "identity", CodeNotServed: "not-served",
	CodeBusy: "busy", CodeUnavailable: "unavailable", CodeSnapshotGone: "snapshot-gone", CodeInternal: "internal", CodeStale: "stale", CodeRetired: "retired",
	CodeTokenWrong: "token-wrong", CodeTokenExpired: "token-expired", CodeTokenUsed: "token-used",
	CodeClock: "clock", CodeUnknownServer: "unknown-server",
}

// String returns the code's name in docs/formats/wire.md.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// Error is an Error frame: the other side's reason, or ours to be sent. The
// text may come from a peer; it is at most MaxText bytes.
type Error struct {
	Code Code
	Text string
}

// Errorf makes an Error with a formatted text.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// Error returns the text, with the code in front.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Text }

// Is reports whether target is an Error of the same code, so that
// errors.Is(err, &Error{Code: CodeBusy}) asks for the code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Text == "" || t.Text == e.Text)
}

// Negotiate returns the version that two sides with these ranges speak.
func Negotiate(ourMin, ourMax, theirMin, theirMax uint32) (uint32, error) {
	v := min(ourMax, theirMax)
	if v < ourMin || v < theirMin || theirMin > theirMax {
		return 0, Errorf(CodeVersion, "this server speaks protocol versions %d to %d and the other one %d to %d: update the older one",
			ourMin, ourMax, theirMin, theirMax)
	}
	return v, nil
}

// Message is what the header of one frame says.
type Message interface {
	// Type is the type of frames that carry the message.
	Type() Type
	// append adds the header's bytes to b.
	append(b []byte) ([]byte, error)
	// decode sets the message from a header within the limit of its type.
	decode(header []byte) error
}

// Role says what a connection is for.
type Role uint8

// The roles.
const (
	RoleControl Role = 0
	RoleData    Role = 1
)

// Hello opens a connection from either side.
type Hello struct {
	Min, Max   uint32 // protocol versions spoken
	Member     repl.MemberID
	Domain     repl.GUID
	Product    string
	Term       uint64 // of the domain file, with
	Generation uint64
	Clock      repl.Time
	Role       Role
}

// Ping asks for a Pong.
type Ping struct{ Sent repl.Time }

// Pong echoes a Ping's time and adds the answering side's clock.
type Pong struct{ Sent, Clock repl.Time }

// Credit lets the upstream send Bytes more on its stream.
type Credit struct{ Bytes uint64 }

// Pace grants a rate to one replication group on this session: what the upstream
// may send for it, in bits per second with all headers. 0 is no limit.
type Pace struct {
	Group repl.GUID
	Rate  uint64
}

// Cancel ends a request that is no longer wanted.
type Cancel struct{}

// DiffRequest asks for what Vector lacks.
type DiffRequest struct {
	Folder   repl.FolderID
	Vector   version.Vector
	After    version.GVSN // the cursor of the page before; zero for the first
	Snapshot []byte       // its token; empty for the first
	Wait     bool         // hold an empty first page back until there is news
	Limit    int          // updates at most; 0: as many as fit
	Phase    Phase        // of the requester
	// Except is what the requester does not know and does not want now: it could
	// not commit it yet.
	Except  version.Vector
	Packed  bool // the page may come packed
	Touches bool // updates that change the mtime alone may come short
	// Floor is what the requester was given of floors in its initial sync (rule
	// 25); else empty.
	Floor version.Vector
	// Retired is the digest of the retired originators that Vector leaves out; 0: it is
	// whole.
	Retired uint64
	// Arrived counts questions as they arrive at a server, from 1; it does not travel.
	Arrived uint64
}

// LeaveOut is what the answer need not hold.
func (m *DiffRequest) LeaveOut() version.Vector {
	if len(m.Except) == 0 {
		return m.Vector
	}
	return m.Vector.Union(m.Except)
}

// DiffPage is a part of what the requester lacks. All pages with one Snapshot
// come from one database snapshot, whose vector is Vector.
type DiffPage struct {
	Vector   version.Vector
	Snapshot []byte
	Updates  []repl.Update
	More     bool
	Cursor   version.GVSN
	Phase    Phase
	Packed   bool     // the updates travel packed, if that is shorter
	Touches  []Touch  // those of Updates that are short, in order
	Salt     [16]byte // of their checks
	// Floor is the upstream's, if the requester does not cover it and is in its
	// initial sync (rule 25); else empty.
	Floor version.Vector
	// Originator is that of the member that answers; zero where it does not say.
	Originator version.Originator
	// Retired is the digest of the upstream's retired originators, 0 if there are none;
	// Short says that Vector leaves them out.
	Retired uint64
	Short   bool
}

// RecordsRequest asks for the current records of objects.
type RecordsRequest struct {
	Folder repl.FolderID
	UIDs   []repl.UID
}

// RecordsReply answers the first Answered UIDs of a RecordsRequest from one
// snapshot, whose vector is Vector.
type RecordsReply struct {
	Updates  []repl.Update
	Unknown  []repl.UID
	Vector   version.Vector
	Answered int
}

// CoverRequest brings what the requester and others have said that they cover,
// and asks for what the upstream has heard.
type CoverRequest struct {
	Folder     repl.FolderID
	Statements []repl.Statement
}

// CoverReply is what the upstream has heard.
type CoverReply struct{ Statements []repl.Statement }

// RdcRequest asks about the content of one version: for nodes or pieces of its
// signature (Question), or for grains. One of the two is set.
type RdcRequest struct {
	Folder   repl.FolderID
	UID      repl.UID
	GVSN     version.GVSN
	Question rdc.Request
	Grains   rdc.GrainRequest
}

// RdcReply is what package rdc answers.
type RdcReply struct{ Reply []byte }

// BarrierRequest asks the upstream to drain its journal first and then tell
// its vector.
type BarrierRequest struct{ Folder repl.FolderID }

// BarrierReply is the upstream's vector after the barrier.
type BarrierReply struct{ Vector version.Vector }

// StatusRequest asks how the upstream stands with a folder.
type StatusRequest struct{ Folder repl.FolderID }

// StatusReply says how a member stands with a folder. Pending counts the
// changes that it has yet to capture or install.
type StatusReply struct {
	Phase   Phase
	Vector  version.Vector
	Pending uint64
}

// DirectoryGet asks for a domain file newer than (Term, Generation).
type DirectoryGet struct {
	Term       uint64
	Generation uint64
	Wait       bool
}

// DirectoryCopy is a signed domain file; empty if there is none newer.
type DirectoryCopy struct {
	Term       uint64
	Generation uint64
	Signed     []byte
}

// RenewRequest brings a PKCS #10 request to the holder of the CA.
type RenewRequest struct{ Request []byte }

// RenewReply is the new certificate, DER.
type RenewReply struct{ Certificate []byte }

// JoinRequest asks for an identity, on the strength of an invitation.
type JoinRequest struct {
	Min, Max   uint32
	Invitation [16]byte
	Request    []byte // PKCS #10, DER
	Addresses  []string
	Clock      repl.Time
	Product    string
	MAC        [32]byte
}

// JoinReply is what a server needs to be a member.
type JoinReply struct {
	Certificate []byte // DER
	CA          []byte // DER
	Domain      []byte // signed copy of the domain file
	Clock       repl.Time
}
