package store

import (
	"fmt"
	"maps"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// names are the originators that have a number in this database. A value is
// never changed; a longer one takes its place.
type names struct {
	numbers     map[version.Originator]uint64
	originators []version.Originator // by number; 0 is nobody
}

// fewNames are as many originators as are found sooner by looking at each.
const fewNames = 8

// ref returns g with its originator's number, if it has one.
func (n *names) ref(g version.GVSN) (ref, bool) {
	if len(n.originators) <= fewNames {
		for i := 1; i < len(n.originators); i++ {
			if n.originators[i] == g.Originator && !g.Originator.IsZero() {
				return ref{uint64(i), g.Version}, true
			}
		}
		return ref{0, g.Version}, false
	}
	o, ok := n.numbers[g.Originator]
	return ref{o, g.Version}, ok
}

// gvsn is the inverse of ref; an unknown number is damage.
func (n *names) gvsn(r ref) (version.GVSN, error) {
	if r.originator == 0 || r.originator >= uint64(len(n.originators)) {
		return version.GVSN{}, fmt.Errorf("originator number %d is not known", r.originator)
	}
	return version.GVSN{Originator: n.originators[r.originator], Version: r.version}, nil
}

// with returns n and one originator more.
func (n *names) with(o version.Originator) *names {
	m := &names{maps.Clone(n.numbers), append(n.originators[:len(n.originators):len(n.originators)], o)}
	m.numbers[o] = uint64(len(n.originators))
	return m
}

// loadNames reads the numbers of all originators.
func loadNames(kv View) (*names, error) {
	n := &names{make(map[version.Originator]uint64), make([]version.Originator, 1)}
	c := kv.Scan([]byte{keyOriginator}, []byte{keyOriginator + 1})
	var bad error
	for bad == nil && c.Next() {
		key := c.Key()
		number, rest, err := decodeOrdered(c.Value())
		if err != nil || len(rest) > 0 || len(key) != 17 || number == 0 || number > 1<<24 {
			bad = corrupt("originator row %x", key)
			break
		}
		o := version.Originator(key[1:])
		for uint64(len(n.originators)) <= number {
			n.originators = append(n.originators, version.Originator{})
		}
		n.originators[number] = o
		n.numbers[o] = number
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	return n, bad
}

// number returns g's form in keys, giving its originator a number if it has
// none. The row of the number is in order before any batch that uses it.
func (s *Store) number(g version.GVSN) (ref, error) {
	if r, ok := s.names.Load().ref(g); ok {
		return r, nil
	}
	s.nameMu.Lock()
	defer s.nameMu.Unlock()
	n := s.names.Load()
	if r, ok := n.ref(g); ok {
		return r, nil
	}
	m := n.with(g.Originator)
	r, _ := m.ref(g)
	var ops Ops
	ops.Set(append([]byte{keyOriginator}, g.Originator[:]...), appendOrdered(nil, r.originator))
	if err := s.kv.Apply(&ops, false); err != nil {
		return ref{}, fmt.Errorf("number originator %v: %w", g.Originator, err)
	}
	s.names.Store(m)
	return r, nil
}

func (s *Store) numberUID(u repl.UID) (ref, error) { return s.number(version.GVSN(u)) }
