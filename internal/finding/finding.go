// Package finding declares every bad condition that the product can meet, as
// a value: a code, a severity, a sentence for people, and the remedy.
//
// A condition is raised while it holds and cleared when it ends; it is never
// only logged. A raise names the object that suffers and a detail that is
// particular to this case (an errno, a path, two times). Raising the same
// (code, object) again is no news: the first raise keeps its time, and the
// caller writes one log line for the first raise and one for the clear.
//
// The table in kinds.go is the only place where a code is declared;
// docs/findings.md lists the same codes for administrators and a test compares
// the two in both directions.
//
// Objects are named as the commands name them, so that one can be pasted into
// the other:
//
//	SERVER                     a server of the domain
//	FROM->TO                   a connection
//	GROUP, GROUP/FOLDER        a replication group, a replicated folder
//	GROUP/FOLDER:relative      something inside a replicated folder
//	""                         this member as a whole
//
// The package sees no clock, no randomness and no file: a caller gives the
// time as a value. It writes no log either; Finding carries what a log line
// needs.
package finding

import (
	"fmt"
	"log/slog"
	"time"
)

// Code names one kind of bad condition, for example "disk-full". Codes are
// part of the interface: scripts and alerts match them, so a code is never
// renamed or reused.
type Code string

// Severity says how bad a condition is. The zero value is not a severity.
type Severity uint8

// The severities, in rising order.
const (
	// Info is worth knowing and needs nobody: a loser was kept.
	Info Severity = iota + 1
	// Warning is a condition in which replication goes on but something is
	// late, kept out, or will become an error if nobody acts.
	Warning
	// Error is a condition that stops a member, a folder or a partner.
	Error
)

// String gives the word that lists, documents and JSON use.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// ParseSeverity is the inverse of String.
func ParseSeverity(s string) (Severity, error) {
	for _, v := range []Severity{Info, Warning, Error} {
		if v.String() == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("read severity %q: unknown word; use info, warning or error", s)
}

// MarshalText writes the word of String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word of String.
func (s *Severity) UnmarshalText(b []byte) error {
	v, err := ParseSeverity(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Level is the slog level at which a raise of this severity is logged.
func (s Severity) Level() slog.Level {
	switch s {
	case Error:
		return slog.LevelError
	case Warning:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Kind is what is declared once about a code.
type Kind struct {
	Code     Code
	Severity Severity
	// Text is one sentence without a full stop: what is the matter.
	Text string
	// Remedy is what the administrator does, or that nothing need be done.
	Remedy string
	// Doc is what it means for replication, the line of docs/findings.md.
	Doc string
}

// Finding is a condition that holds now.
type Finding struct {
	Code     Code      `json:"code"`
	Severity Severity  `json:"severity"`
	Object   string    `json:"object"`           // named as the package comment says
	Detail   string    `json:"detail,omitempty"` // particular to this case; the newest one given
	Since    time.Time `json:"since"`            // when it was first raised
	Text     string    `json:"text"`             // Kind.Text
	Remedy   string    `json:"remedy"`           // Kind.Remedy
}

// String is the finding in one line, as status and logs show it.
func (f Finding) String() string {
	s := fmt.Sprintf("%s %s", f.Severity, f.Code)
	if f.Object != "" {
		s += " " + f.Object
	}
	s += ": " + f.Text
	if f.Detail != "" {
		s += " (" + f.Detail + ")"
	}
	return s
}

// LogValue gives the attributes of the one log line of a raise or a clear.
func (f Finding) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("code", string(f.Code)),
		slog.String("severity", f.Severity.String()),
		slog.String("object", f.Object),
		slog.String("detail", f.Detail),
		slog.Time("since", f.Since),
		slog.String("text", f.Text),
		slog.String("remedy", f.Remedy),
	)
}
