package pki

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"opendfs/internal/repl"
	"opendfs/internal/wire"
)

// The reasons why a join is refused.
var (
	ErrTokenWrong    = errors.New("the token is not one of this domain's; ask for a new one with `dfs invite`")
	ErrTokenExpired  = errors.New("the token has expired; ask for a new one with `dfs invite`")
	ErrTokenUsed     = errors.New("the token was used already; ask for a new one with `dfs invite`")
	ErrUnknownServer = errors.New("the server is not in the domain any more; invite it again")
)

// Invitations is the list of those who may join, kept by the holder of the CA
// in STATE/invitations.json. One process uses it; safe for concurrent use.
type Invitations struct {
	state string
	mu    sync.Mutex // held from reading the file to its replacement
}

// OpenInvitations returns the invitations of a state directory.
func OpenInvitations(state string) *Invitations { return &Invitations{state: state} }

type invitationList struct {
	Version     int          `json:"version"`
	Invitations []invitation `json:"invitations"`
}

// invitation is one entry. Key takes the place of the token's secret, which is
// not kept.
type invitation struct {
	ID       string    `json:"id"`
	Key      string    `json:"key"`
	ServerID string    `json:"serverID"`
	Server   string    `json:"server"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	UsedBy   string    `json:"usedBy"` // hex SHA-256 of the newcomer's public key
	Used     time.Time `json:"used"`
}

// String hides the key.
func (i invitation) String() string { return fmt.Sprintf("invitation of server %q", i.Server) }

// GoString hides the key.
func (i invitation) GoString() string { return i.String() }

// LogValue hides the key from logs in JSON too.
func (i invitation) LogValue() slog.Value { return slog.StringValue(i.String()) }

// adminPrefix stands before the name of an administrator where else a server's
// stands, whose name has no colon.
const adminPrefix = "admin:"

// invitee is whom an invitation names.
func invitee(name string, id repl.GUID) Subject {
	if admin, ok := strings.CutPrefix(name, adminPrefix); ok {
		return Subject{KindAdmin, id, admin}
	}
	return Subject{KindServer, id, name}
}

// Admin returns the name of the administrator that the token is for; ok is false
// for a server's.
func (t Token) Admin() (name string, ok bool) { return strings.CutPrefix(t.Server, adminPrefix) }

// CreateAdmin is Create for an administrator of the domain.
func (l *Invitations) CreateAdmin(a *Authority, id repl.GUID, name string, addresses []string, now time.Time) (Token, error) {
	return l.Create(a, repl.MemberID(id), adminPrefix+name, addresses, now)
}

// Create invites a server of the domain: valid once, for one hour. It ends
// older invitations of that server. addresses are where this server is reached.
func (l *Invitations) Create(a *Authority, server repl.MemberID, name string, addresses []string, now time.Time) (Token, error) {
	t, err := newToken(a.Domain(), a.Fingerprint(), a.Name(), name, slices.Clone(addresses))
	if err != nil {
		return Token{}, fmt.Errorf("invite server %q: %w", name, err)
	}
	id, key := t.invitationID(), t.key()
	err = l.change(now, func(list *invitationList) error {
		list.Invitations = slices.DeleteFunc(list.Invitations, func(i invitation) bool {
			return i.ServerID == server.String() && i.UsedBy == ""
		})
		list.Invitations = append(list.Invitations, invitation{
			ID: hex.EncodeToString(id[:]), Key: hex.EncodeToString(key[:]), ServerID: server.String(), Server: name,
			Created: now.UTC(), Expires: now.UTC().Add(invitationLife),
		})
		return nil
	})
	if err != nil {
		return Token{}, fmt.Errorf("invite server %q: %w", name, err)
	}
	return t, nil
}

// change reads the list, lets f change it and writes it back, if f agrees.
func (l *Invitations) change(now time.Time, f func(*invitationList) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := invitationList{Version: 1}
	b, err := read(l.state, invitationsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		err := json.Unmarshal(b, &list)
		if err == nil && list.Version != 1 {
			err = fmt.Errorf("version %d", list.Version)
		}
		if err != nil {
			return fmt.Errorf("read %s: not a list of invitations of version 1: %w; move it aside, invitations can be made anew", filepath.Join(l.state, invitationsFile), err)
		}
	}
	list.Invitations = slices.DeleteFunc(list.Invitations, func(i invitation) bool { return now.After(i.Expires.Add(remembered)) })
	if err := f(&list); err != nil {
		return err
	}
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return write(l.state, invitationsFile, append(out, '\n'))
}

// consume checks a join request against its invitation and marks that used,
// durably, before it returns. check is asked between the two.
func (l *Invitations) consume(r *wire.JoinRequest, newcomer [32]byte, now time.Time, check func(invitation) error) (got invitation, err error) {
	id, usedBy := hex.EncodeToString(r.Invitation[:]), hex.EncodeToString(newcomer[:])
	err = l.change(now, func(list *invitationList) error {
		at := slices.IndexFunc(list.Invitations, func(i invitation) bool { return i.ID == id })
		if at < 0 {
			return ErrTokenWrong
		}
		i := &list.Invitations[at]
		key, err := hex.DecodeString(i.Key)
		if err != nil || len(key) != 32 || !validMAC([32]byte(key), r) {
			return ErrTokenWrong
		}
		switch {
		case i.UsedBy != "" && i.UsedBy != usedBy:
			return fmt.Errorf("invitation of server %q, used at %s: %w", i.Server, i.Used.Format(time.RFC3339), ErrTokenUsed)
		case now.After(i.Expires):
			return fmt.Errorf("invitation of server %q, expired at %s: %w", i.Server, i.Expires.Format(time.RFC3339), ErrTokenExpired)
		}
		if err := check(*i); err != nil {
			return err
		}
		if i.UsedBy == "" {
			i.UsedBy, i.Used = usedBy, now.UTC()
		}
		got = *i
		return nil
	})
	return got, err
}
