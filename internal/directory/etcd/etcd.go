// Package etcd keeps a domain in etcd: a directory.Store for high availability,
// over a cluster that is there already (Dial), or over one that the domain's own
// servers run among each other (Serve). docs/formats/etcd.md has the keys.
//
// The domain is one value under one key, replaced by a transaction that asks
// whether it is still the one that was read: a change is there as a whole or not
// at all. A text too large for one request stands in parts that are written
// before, under the name of their hash; parts that nothing names are removed by
// the next change.
//
// A Store knows the newest domain that it has seen and gives that without asking.
// It reads no file but those of an embedded server, which it is told.
package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"opendfs/internal/directory"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds and rhythm.
const (
	// inline is the longest text in the value itself: requests to a cluster are
	// at most 1.5 MiB by default.
	inline   = 1 << 20
	maxParts = directory.MaxSize/inline + 1
	// again is between two attempts to watch.
	again = time.Second
	// attempt is between two attempts of a change.
	attempt = 200 * time.Millisecond
)

// The first byte of the value under the key of the domain.
const (
	whole   = 'W' // the text follows
	inParts = 'P' // the number of parts (4 bytes, big-endian) and the SHA-256 of the text follow
)

// Options say which domain is kept where.
type Options struct {
	// Client speaks to the cluster. The Store closes it.
	Client *clientv3.Client
	// Domain is the id of the domain; it is part of the keys.
	Domain directory.UUID
	// Rand draws ids.
	Rand io.Reader
	// Refusal finds out why a cluster does not answer, as that of DialOptions; it may
	// be nil.
	Refusal func(context.Context) error
	// Problem is told why the cluster does not answer, and nil when it does
	// again. It may be nil.
	Problem func(error)
}

// Store is a domain in etcd.
type Store struct {
	options  Options
	watchers directory.Watchers
	cancel   context.CancelFunc
	done     chan struct{}
	// step, if set, is asked before each step of a change. Tests set it.
	step func(string) error

	mu sync.Mutex
	// doc was read at revision: the cluster's, of the last change of the key.
	doc      *directory.Document
	revision int64
}

var _ directory.Store = (*Store)(nil)

// ErrEmpty is the error of a cluster that does not hold the domain.
var ErrEmpty = errors.New("the domain is not in it; `dfs directory move` puts it there")

// Open gives the Store of a domain. If the cluster has no such domain, or one of
// an earlier term than first (which it was moved away from), first is put there;
// with a nil first the error is ErrEmpty. It asks until ctx ends.
func Open(ctx context.Context, o Options, first *directory.Document) (*Store, error) {
	return open(ctx, o, first, nil)
}

func open(ctx context.Context, o Options, first *directory.Document, step func(string) error) (*Store, error) {
	s := &Store{options: o, step: step, done: make(chan struct{})}
	if err := s.begin(ctx, first); err != nil {
		return nil, errors.Join(fmt.Errorf("open the domain in etcd: %w", err), o.Client.Close())
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(s.done)
		s.follow(ctx)
	}()
	return s, nil
}

// begin reads the domain, and puts first there if that is called for.
func (s *Store) begin(ctx context.Context, first *directory.Document) error {
	for {
		doc, revision, err := s.ask(ctx)
		if err != nil && !errors.Is(err, ErrEmpty) {
			s.problem(err)
			if errors.Is(err, directory.ErrForeign) || !pause(ctx) {
				return err
			}
			continue
		}
		if doc != nil && (first == nil || doc.Domain.Term >= first.Domain.Term) {
			s.take(doc, revision)
			return nil
		}
		if first == nil {
			return err
		}
		if _, err := s.put(ctx, first, revision, changeTime); err != nil && (s.step != nil || !pause(ctx)) {
			return err
		}
	}
}

// pause waits before another attempt; false if ctx has ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(attempt)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends the Store and its client.
func (s *Store) Close() error {
	s.cancel()
	<-s.done
	if err := s.options.Client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd: %w", err)
	}
	return nil
}

func (s *Store) prefix() string { return "/opendfs/" + s.options.Domain.String() + "/" }
func (s *Store) key() string    { return s.prefix() + "domain" }
func (s *Store) part(sum []byte, i int) string {
	return s.parts() + hex.EncodeToString(sum) + "/" + strconv.Itoa(i)
}
func (s *Store) parts() string { return s.prefix() + "parts/" }

// read reads the domain as the cluster has it; revision is 0 if it is not there.
// ask is read for who asks as long as it takes: bounded, and with the reason if there
// is no answer.
func (s *Store) ask(ctx context.Context) (*directory.Document, int64, error) {
	asking, stop := context.WithTimeout(ctx, changeTime)
	defer stop()
	doc, revision, err := s.read(asking)
	if err != nil && ctx.Err() == nil {
		err = because(ctx, err, s.options.Refusal)
	}
	return doc, revision, err
}

func (s *Store) read(ctx context.Context) (*directory.Document, int64, error) {
	r, err := s.options.Client.Get(ctx, s.key())
	if err != nil {
		return nil, 0, err
	}
	if len(r.Kvs) == 0 {
		return nil, 0, ErrEmpty
	}
	kv := r.Kvs[0]
	doc, err := s.decode(ctx, kv.Value, kv.ModRevision)
	return doc, kv.ModRevision, err
}

// decode reads the document of a value that stood there at a revision.
func (s *Store) decode(ctx context.Context, v []byte, revision int64) (*directory.Document, error) {
	text, err := s.text(ctx, v, revision)
	if err != nil {
		return nil, err
	}
	doc, err := directory.Read(text, "domain in etcd")
	if err != nil {
		return nil, err
	}
	if doc.Domain.ID != s.options.Domain {
		return nil, directory.ErrForeign
	}
	return doc, nil
}

func (s *Store) text(ctx context.Context, v []byte, revision int64) ([]byte, error) {
	switch {
	case len(v) > 0 && v[0] == whole:
		return v[1:], nil
	case len(v) == 1+4+sha256.Size && v[0] == inParts:
	default:
		return nil, fmt.Errorf("value of %d bytes is none that a dfs has written; if a newer one did, install that here", len(v))
	}
	n, sum := binary.BigEndian.Uint32(v[1:]), v[5:]
	if n > maxParts {
		return nil, fmt.Errorf("value names %d parts, more than %d", n, maxParts)
	}
	var text []byte
	for i := range int(n) {
		r, err := s.options.Client.Get(ctx, s.part(sum, i), clientv3.WithRev(revision))
		if err != nil {
			return nil, err
		}
		if len(r.Kvs) == 1 {
			text = append(text, r.Kvs[0].Value...)
		}
	}
	if got := sha256.Sum256(text); !bytes.Equal(got[:], sum) {
		return nil, errors.New("the parts of the domain are not what was written; restore the cluster, or run `dfs directory promote` on a server that holds the CA's key")
	}
	return text, nil
}

// put makes a document the domain if its key was last changed at revision, and
// says whether.
func (s *Store) put(ctx context.Context, doc *directory.Document, revision int64, try time.Duration) (bool, error) {
	text := doc.Text()
	if len(text) > directory.MaxSize {
		return false, fmt.Errorf("the domain has %d bytes, more than %d", len(text), directory.MaxSize)
	}
	v := append([]byte{whole}, text...)
	if len(text) > inline {
		sum := sha256.Sum256(text)
		n := 0
		for rest := text; len(rest) > 0; n++ {
			part := rest[:min(inline, len(rest))]
			rest = rest[len(part):]
			if err := s.before("put part"); err != nil {
				return false, err
			}
			if _, err := s.options.Client.Put(ctx, s.part(sum[:], n), string(part)); err != nil {
				return false, err
			}
		}
		v = append(binary.BigEndian.AppendUint32([]byte{inParts}, uint32(n)), sum[:]...)
	}
	if err := s.before("put domain"); err != nil {
		return false, err
	}
	trying, stop := context.WithTimeout(ctx, try)
	defer stop()
	r, err := s.options.Client.Txn(trying).
		If(clientv3.Compare(clientv3.ModRevision(s.key()), "=", revision)).
		Then(clientv3.OpPut(s.key(), string(v))).Commit()
	if err != nil || !r.Succeeded {
		return false, err
	}
	s.take(doc, r.Header.Revision)
	if err := s.before("remove old parts"); err != nil {
		return true, err
	}
	s.sweep(ctx, v)
	return true, nil
}

// sweep removes parts that the value v does not name. What it leaves the next
// one finds.
func (s *Store) sweep(ctx context.Context, v []byte) {
	keep := ""
	if v[0] == inParts {
		keep = s.parts() + hex.EncodeToString(v[5:]) + "/"
	}
	_, now := s.known()
	r, err := s.options.Client.Get(ctx, s.parts(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return
	}
	for _, kv := range r.Kvs {
		// What was put since the change may be of one who is about to name it.
		if keep != "" && bytes.HasPrefix(kv.Key, []byte(keep)) || kv.ModRevision > now {
			continue
		}
		key := string(kv.Key)
		_, err := s.options.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).Then(clientv3.OpDelete(key)).Commit()
		if err != nil {
			return
		}
	}
}

func (s *Store) before(step string) error {
	if s.step == nil {
		return nil
	}
	return s.step(step)
}

// take remembers what was seen, if it is newer than what is known.
func (s *Store) take(doc *directory.Document, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision <= s.revision {
		return
	}
	s.doc, s.revision = doc, revision
	s.watchers.Tell(doc.Domain)
}

func (s *Store) known() (*directory.Document, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc, s.revision
}

// Load is that of directory.Store.
func (s *Store) Load(context.Context) (*directory.Document, error) {
	doc, _ := s.known()
	return doc, nil
}

// Watch is that of directory.Store.
func (s *Store) Watch(ctx context.Context) <-chan *directory.Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers.Add(ctx, s.doc.Domain)
}

// changeTime is how long a change may take; a cluster without a leader never
// answers.
const changeTime = 10 * time.Second

// tryTime is how long the first attempt of a change waits for its answer; each later
// one waits twice as long. What was asked of a leader that died has no answer: etcd
// says so after seven seconds.
const tryTime = 2 * time.Second

// Update is that of directory.Store.
func (s *Store) Update(ctx context.Context, base uint64, next *directory.Document) (*directory.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	fail := func(err error) (*directory.Document, error) {
		err = because(ctx, err, s.options.Refusal)
		return nil, fmt.Errorf("change the domain in etcd: %w; if most of its servers are down, start them; if they are gone for good, `dfs directory promote`", err)
	}
	now, revision := s.known()
	if base > now.Domain.Generation { // somebody has seen more than this one
		doc, at, err := s.read(ctx)
		if err != nil {
			return fail(err)
		}
		s.take(doc, at)
		now, revision = doc, at
	}
	doc, err := directory.Successor(now, next, base, s.options.Rand)
	if err != nil {
		return nil, err
	}
	for try := tryTime; ; try *= 2 {
		done, err := s.put(ctx, doc, revision, try)
		if done {
			return doc, err
		}
		if err != nil && (s.step != nil || !pause(ctx)) {
			return fail(err)
		}
		// Refused, or a leader went while it was asked: then what is there now tells.
		now, at, readErr := s.read(ctx)
		switch {
		case readErr != nil && !pause(ctx):
			return fail(readErr)
		case readErr != nil || at == revision && err != nil:
			continue
		case bytes.Equal(now.Text(), doc.Text()):
			s.take(now, at)
			return now, nil
		}
		s.take(now, at)
		return nil, &directory.ConflictError{Base: base, Current: now.Domain.Generation}
	}
}

// follow keeps what is known up to date until ctx ends.
func (s *Store) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		s.problem(err)
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

func (s *Store) problem(err error) {
	if s.options.Problem != nil {
		s.options.Problem(err)
	}
}

// watch reads the domain and then each change of it, until something is wrong.
func (s *Store) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	doc, revision, err := s.ask(ctx)
	if err != nil {
		return fmt.Errorf("read the domain in etcd: %w", err)
	}
	s.take(doc, revision)
	s.problem(nil)
	changes := s.options.Client.Watch(clientv3.WithRequireLeader(ctx), s.key(), clientv3.WithRev(revision+1))
	for r := range changes {
		if err := r.Err(); err != nil {
			return fmt.Errorf("watch the domain in etcd: %w", err)
		}
		for _, e := range r.Events {
			if e.Type != clientv3.EventTypePut {
				return fmt.Errorf("watch the domain in etcd: %w", ErrEmpty)
			}
			doc, err := s.decode(ctx, e.Kv.Value, e.Kv.ModRevision)
			if err != nil {
				return fmt.Errorf("read the domain in etcd: %w", err)
			}
			s.take(doc, e.Kv.ModRevision)
		}
	}
	return errors.New("watch the domain in etcd: the connection ended")
}
