package rdc

import (
	"fmt"
	"slices"
)

// fineMax bounds the bytes of seeds, and of the new version, whose pieces are
// in one index: 4 GiB, that is 2 Mi pieces as a rule and 4 Mi at most. What is
// larger is looked through in slices, the first part of the one against the
// first of the other. A variable so that tests need no such files.
var fineMax int64 = 4 << 30

// Match finds how target is put together from seeds, preferring the first. Whole
// chunks match by their strong hash, wherever they are; pieces are asked for
// only of chunks of target that match nothing, and of chunks of seeds that
// nothing matched or that lie at the end of a run that did. The work is linear
// in the chunks and pieces, whatever they hold: of like ones the first is known,
// and the one that goes on from the match before.
func Match(target Seed, seeds []Seed) (*Needs, error) {
	if len(seeds) > MaxSeeds {
		return nil, fmt.Errorf("rdc: match: %d seeds are more than %d", len(seeds), MaxSeeds)
	}
	m := newMatcher(target, seeds)
	m.chunks()
	if err := m.fine(); err != nil {
		return nil, fmt.Errorf("rdc: match: %w", err)
	}
	return m.needs()
}

// place is a chunk or a piece of a seed.
type place struct {
	seed int
	off  int64
	len  uint32
}

func (p place) before(q place) bool { return p.seed == q.seed && p.off+int64(p.len) == q.off }

type matcher struct {
	target Seed
	seeds  []Seed
	places []place // all chunks of all seeds, in order
	sums   []Sum   // theirs
	base   []int   // of each seed, where in places it begins
	hit    []int   // of each chunk of target, the place it equals, or -1
	offs   []int64 // of each chunk of target, where it begins
	runs   [][]Run // of each chunk without a hit, what its pieces gave; nil: all new
}

func newMatcher(target Seed, seeds []Seed) *matcher {
	m := &matcher{target: target, seeds: seeds, offs: target.Sig.offsets()}
	for k, s := range seeds {
		m.base = append(m.base, len(m.places))
		var off int64
		for _, c := range s.Sig.Chunks {
			m.places = append(m.places, place{k, off, c.Len})
			m.sums = append(m.sums, c.Sum)
			off += int64(c.Len)
		}
	}
	return m
}

// chunks finds the hits.
func (m *matcher) chunks() {
	index := make(map[Sum]int, len(m.sums))
	for j := len(m.sums) - 1; j >= 0; j-- {
		index[m.sums[j]] = j
	}
	n := len(m.target.Sig.Chunks)
	m.hit, m.runs = make([]int, n), make([][]Run, n)
	next := -1
	for i, c := range m.target.Sig.Chunks {
		j := next
		if j < 0 || j >= len(m.sums) || m.sums[j] != c.Sum || m.places[j].len != c.Len {
			var ok bool
			if j, ok = index[c.Sum]; !ok || m.places[j].len != c.Len {
				j = -1
			}
		}
		m.hit[i] = j
		if j >= 0 {
			next = j
		}
		if next >= 0 { // a miss is taken for one chunk in the place of one
			next++
		}
	}
}

// open lists the chunks of target without a hit, and the places whose pieces
// may be in them.
func (m *matcher) open() (news, olds []int) {
	used := make([]bool, len(m.places))
	edge := make([]bool, len(m.places))
	for i, j := range m.hit {
		if j < 0 {
			news = append(news, i)
			continue
		}
		used[j] = true
		if i > 0 && m.hit[i-1] < 0 && j > 0 {
			edge[j-1] = true
		}
		if i+1 < len(m.hit) && m.hit[i+1] < 0 && j+1 < len(edge) {
			edge[j+1] = true
		}
	}
	for j, p := range m.places {
		if (!used[j] || edge[j]) && m.seeds[p.seed].Pieces != nil {
			olds = append(olds, j)
		}
	}
	return news, olds
}

// fine matches the pieces of what is open, in slices.
func (m *matcher) fine() error {
	news, olds := m.open()
	if len(news) == 0 || len(olds) == 0 || m.target.Pieces == nil {
		return nil
	}
	var oldBytes, newBytes int64
	for _, j := range olds {
		oldBytes += int64(m.places[j].len)
	}
	for _, i := range news {
		newBytes += int64(m.target.Sig.Chunks[i].Len)
	}
	slicesWanted := int(max(oldBytes, newBytes)/fineMax) + 1
	for k := range slicesWanted {
		n := news[len(news)*k/slicesWanted : len(news)*(k+1)/slicesWanted]
		o := olds[len(olds)*k/slicesWanted : len(olds)*(k+1)/slicesWanted]
		if err := m.slice(n, o); err != nil {
			return err
		}
	}
	return nil
}

// pieceIndex finds pieces of seeds by their hash. Of like ones it knows the
// first, and each knows its neighbour.
type pieceIndex struct {
	first  map[uint64]int32
	places []place
	hashes []uint64
}

func (x *pieceIndex) add(p place, hash uint64) {
	if _, ok := x.first[hash]; !ok {
		x.first[hash] = int32(len(x.places))
	}
	x.places = append(x.places, p)
	x.hashes = append(x.hashes, hash)
}

// find returns the index of a piece like p, next if that is one, or -1.
func (x *pieceIndex) find(p Piece, next int) int {
	if next > 0 && next < len(x.places) && x.hashes[next] == p.Hash &&
		x.places[next].len == uint32(p.Len) && x.places[next-1].before(x.places[next]) {
		return next
	}
	if j, ok := x.first[p.Hash]; ok && x.places[j].len == uint32(p.Len) {
		return int(j)
	}
	return -1
}

func (m *matcher) slice(news, olds []int) error {
	x := &pieceIndex{first: map[uint64]int32{}}
	for len(olds) > 0 {
		k := m.places[olds[0]].seed
		n, _ := slices.BinarySearchFunc(olds, k+1, func(j, seed int) int { return m.places[j].seed - seed })
		own := make([]int, n)
		for i := range own {
			own[i] = olds[i] - m.base[k]
		}
		err := m.seeds[k].Pieces(own, func(c int, ps []Piece) error {
			off := m.places[m.base[k]+c].off
			for _, p := range ps {
				x.add(place{k, off, uint32(p.Len)}, p.Hash)
				off += int64(p.Len)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("pieces of seed %d: %w", k, err)
		}
		olds = olds[n:]
	}
	if len(x.places) == 0 {
		return nil
	}
	next, prev := -1, -1
	err := m.target.Pieces(news, func(i int, ps []Piece) error {
		if i != prev+1 {
			next = -1
		}
		prev = i
		at := m.offs[i]
		var part Needs
		for _, p := range ps {
			r := Run{Fetch, at, int64(p.Len)}
			if j := x.find(p, next); j >= 0 {
				r.Seed, r.Off = x.places[j].seed, x.places[j].off
				next = j
			}
			if next >= 0 {
				next++
			}
			part.add(r)
			at += int64(p.Len)
		}
		m.runs[i] = part.Runs
		return nil
	})
	if err != nil {
		return fmt.Errorf("pieces of the new version: %w", err)
	}
	return nil
}

// needs puts the runs together.
func (m *matcher) needs() (*Needs, error) {
	n := &Needs{}
	sizes := make([]int64, len(m.seeds))
	for k, s := range m.seeds {
		sizes[k] = s.Sig.Size
	}
	for i, c := range m.target.Sig.Chunks {
		switch j := m.hit[i]; {
		case j >= 0:
			n.add(Run{m.places[j].seed, m.places[j].off, int64(c.Len)})
		case m.runs[i] == nil:
			n.add(Run{Fetch, m.offs[i], int64(c.Len)})
		default:
			for _, r := range m.runs[i] {
				n.add(r)
			}
		}
	}
	if len(n.Runs) > MaxRuns {
		return nil, fmt.Errorf("rdc: match: %d runs are more than %d: fetch the file whole", len(n.Runs), MaxRuns)
	}
	if err := n.check(sizes); err != nil {
		return nil, fmt.Errorf("rdc: match: %w", err)
	}
	return n, nil
}
