package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// System is the name service of this machine. It asks getent(1), which knows
// whatever /etc/nsswitch.conf names (winbind, sssd, LDAP), and this program, that is
// linked statically, does not; without it, /etc/passwd and /etc/group. What it
// has answered is kept: names for ten minutes, that one is not known for ten seconds.
// Of SIDs it asks Samba's wbinfo(1), and keeps either answer for ten minutes.
// A number whose name is lost keeps the one it had.
type System struct {
	asking singleflight.Group // by what known goes by

	mu    sync.Mutex
	known map[string]answer // by "passwd:1000", "group:staff"; guarded by mu
}

type answer struct {
	name string
	id   uint32
	ok   bool
	till time.Time
}

const (
	namesKept   = 10 * time.Minute
	namesMissed = 10 * time.Second
	namesMost   = 1 << 16
	namesWait   = 30 * time.Second
)

var _ Names = (*System)(nil)

// User is that of Names.
func (s *System) User(id uint32) (string, bool, error) {
	a, err := s.ask("passwd", strconv.FormatUint(uint64(id), 10))
	return a.name, a.ok, err
}

// Group is that of Names.
func (s *System) Group(id uint32) (string, bool, error) {
	a, err := s.ask("group", strconv.FormatUint(uint64(id), 10))
	return a.name, a.ok, err
}

// UserID is that of Names.
func (s *System) UserID(name string) (uint32, bool, error) {
	if !validOwner(name) { // a number would be taken for one
		return 0, false, nil
	}
	a, err := s.ask("passwd", name)
	return a.id, a.ok, err
}

// GroupID is that of Names.
func (s *System) GroupID(name string) (uint32, bool, error) {
	if !validOwner(name) {
		return 0, false, nil
	}
	a, err := s.ask("group", name)
	return a.id, a.ok, err
}

// The databases of SIDs, as wbinfo has them.
const (
	sidUsers  = "sid-to-uid"
	sidGroups = "sid-to-gid"
)

// SIDUser is that of Names.
func (s *System) SIDUser(sid string) (uint32, bool, error) {
	if !strings.HasPrefix(sid, "S-") {
		return 0, false, nil
	}
	a, err := s.ask(sidUsers, sid)
	return a.id, a.ok, err
}

// SIDGroup is that of Names.
func (s *System) SIDGroup(sid string) (uint32, bool, error) {
	if !strings.HasPrefix(sid, "S-") {
		return 0, false, nil
	}
	a, err := s.ask(sidGroups, sid)
	return a.id, a.ok, err
}

// ask looks a key up in a database of names. Those who ask for the same wait for
// one answer; nobody waits for another's.
func (s *System) ask(database, key string) (answer, error) {
	at := database + ":" + key
	if a, fresh := s.kept(at); fresh {
		return a, nil
	}
	a, err, _ := s.asking.Do(at, func() (any, error) {
		was, fresh := s.kept(at) // by one who asked just before
		if fresh {
			return was, nil
		}
		now := time.Now()
		a, err := lookUp(database, key)
		if err != nil {
			return answer{}, fmt.Errorf("ask for %s %s: %w", database, key, err)
		}
		a.till = now.Add(namesKept)
		if !a.ok && database != sidUsers && database != sidGroups {
			if was.ok && key[0] >= '0' && key[0] <= '9' {
				a = was
			}
			a.till = now.Add(namesMissed)
		}
		s.keep(at, a)
		return a, nil
	})
	return a.(answer), err
}

// kept returns the last answer, and whether it still holds.
func (s *System) kept(at string) (a answer, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, asked := s.known[at]
	return a, asked && time.Now().Before(a.till)
}

func (s *System) keep(at string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= namesMost {
		s.known = make(map[string]answer)
	}
	s.known[at] = a
}

// lookUp asks getent, or where there is none the files.
func lookUp(database, key string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), namesWait)
	defer cancel()
	if database == sidUsers || database == sidGroups {
		out, err := exec.CommandContext(ctx, "wbinfo", "--"+database+"="+key).Output()
		if err != nil { // no Samba, no winbindd, or it does not know the SID: wbinfo says the same of all
			return answer{}, nil
		}
		return answerOf(key, strings.TrimSpace(string(out)))
	}
	out, err := exec.CommandContext(ctx, "getent", "--", database, key).Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return lookUpFiles(database, key)
	case errors.As(err, &exit) && exit.ExitCode() == 2: // no such key
		return answer{}, nil
	case err != nil:
		return answer{}, err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	f := strings.Split(line, ":")
	if len(f) < 3 {
		return answer{}, nil
	}
	return answerOf(f[0], f[2])
}

func lookUpFiles(database, key string) (answer, error) {
	number := key[0] >= '0' && key[0] <= '9'
	var name, id string
	var err error
	if database == "passwd" {
		find := user.Lookup
		if number {
			find = user.LookupId
		}
		var u *user.User
		if u, err = find(key); err == nil {
			name, id = u.Username, u.Uid
		}
	} else {
		find := user.LookupGroup
		if number {
			find = user.LookupGroupId
		}
		var g *user.Group
		if g, err = find(key); err == nil {
			name, id = g.Name, g.Gid
		}
	}
	if err != nil {
		return answer{}, nil // the files were read, or there are none
	}
	return answerOf(name, id)
}

func answerOf(name, id string) (answer, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || !validOwner(name) {
		return answer{}, nil
	}
	return answer{name: name, id: uint32(n), ok: true}, nil
}

// unknownNames are names that this server was asked to set and does not know.
type unknownNames struct {
	mu    sync.Mutex
	names map[string]time.Time
}

const unknownMost = 1000

func (u *unknownNames) note(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.names == nil {
		u.names = make(map[string]time.Time)
	}
	if len(u.names) < unknownMost {
		u.names[name] = time.Now()
	}
}

// UnknownOwners lists the users and groups that objects of the volume should
// have belonged to and that this server still does not know.
func (v *Disk) UnknownOwners() []string {
	v.unknown.mu.Lock()
	names := slices.Sorted(maps.Keys(v.unknown.names))
	v.unknown.mu.Unlock()
	return slices.DeleteFunc(names, func(name string) bool {
		_, user, err := v.names.UserID(name)
		if err != nil {
			return false
		}
		_, group, err := v.names.GroupID(name)
		if err != nil || !user && !group {
			return false
		}
		v.unknown.mu.Lock()
		delete(v.unknown.names, name)
		v.unknown.mu.Unlock()
		return true
	})
}
