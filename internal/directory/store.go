package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Store is where the domain lives. Implementations are safe for concurrent
// use, and pass the contract suite of this package's tests.
type Store interface {
	// Load gives the newest document that this member knows. It does not wait
	// for other servers. It is shared: do not change it.
	Load(ctx context.Context) (*Document, error)

	// Update replaces the domain, which must be at generation base, and gives
	// what was stored: next, with ids completed, generation base+1 and the
	// term unchanged, or one more if next says that the domain shall live
	// elsewhere; what next itself says of generation and term is ignored. When it returns without an error the change is durable.
	//
	// Errors: a *ConflictError if the domain is not at base; a
	// *NotMasterError if it is changed on another server; ErrForeign if next
	// is of another domain; Problems if next is not valid. Nothing has changed
	// then. After another error a later Load tells whether it has.
	Update(ctx context.Context, base uint64, next *Document) (*Document, error)

	// Watch gives the domain as it is now and then each time it changes. A
	// slow receiver misses what was replaced in between, never the newest. The
	// channel is closed when ctx ends. Domains are shared: do not change them.
	Watch(ctx context.Context) <-chan *Domain
}

// ErrForeign is the error of a document or a copy of another domain.
var ErrForeign = errors.New("it is of another domain; check the id at its top, or the server that it came from")

// ConflictError says that the domain was changed by somebody else.
type ConflictError struct {
	Base, Current uint64 // generations
}

// Error tells what to do.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("change domain at generation %d: it is at generation %d by now; load it again, repeat the change, apply", e.Base, e.Current)
}

// NotMasterError says that this server holds a copy.
type NotMasterError struct {
	Master  string // name of the server where changes are made; its id if it has no name here
	Address string // where it is reached, if known
}

// Error tells where to go.
func (e *NotMasterError) Error() string {
	at := e.Master
	if e.Address != "" {
		at += " (" + e.Address + ")"
	}
	return fmt.Sprintf("change domain: this server holds a copy, the master is %s; run the command there, or `dfs directory promote` here if it is gone for good", at)
}

// Successor gives the document that an Update of now at generation base stores in
// its place. Its errors are those of Store.Update.
func Successor(now, next *Document, base uint64, rand io.Reader) (*Document, error) {
	if base != now.Domain.Generation {
		return nil, &ConflictError{base, now.Domain.Generation}
	}
	if id := next.Domain.ID; !id.IsZero() && id != now.Domain.ID {
		return nil, fmt.Errorf("change domain %q: %w", now.Domain.Name, ErrForeign)
	}
	d, err := next.Domain.Complete(now.Domain, rand)
	if err != nil {
		return nil, err
	}
	d.ID, d.Term, d.Generation = now.Domain.ID, now.Domain.Term, base+1
	if !d.Home.Equal(&now.Domain.Home) {
		d.Term++
	}
	return next.With(d)
}

// Watchers tells those who watch a Store. The zero value is ready.
type Watchers struct {
	mu   sync.Mutex
	list map[chan *Domain]struct{}
}

// Add gives a channel that has d at once and ends with ctx.
func (w *Watchers) Add(ctx context.Context, d *Domain) <-chan *Domain {
	// One slot: Tell replaces what was not fetched by what is newer.
	c := make(chan *Domain, 1)
	c <- d
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.list == nil {
		w.list = make(map[chan *Domain]struct{})
	}
	w.list[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.list, c)
		close(c)
	})
	return c
}

// Tell gives d to all.
func (w *Watchers) Tell(d *Domain) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.list {
		select {
		case <-c:
		default:
		}
		c <- d // the slot is free: only Tell sends, under mu
	}
}

// Memory is a Store that lasts as long as the process, for demonstrations and
// simulated clusters.
type Memory struct {
	rand     io.Reader
	watchers Watchers

	mu sync.Mutex
	// doc is complete; its generation never sinks.
	doc *Document
}

// NewMemory makes a store of a document. Ids that it leaves out are drawn from
// rand, and it starts at generation 1 if it says none.
func NewMemory(doc *Document, rand io.Reader) (*Memory, error) {
	d, err := doc.Domain.Complete(nil, rand)
	if err != nil {
		return nil, err
	}
	d.Generation = max(d.Generation, 1)
	if doc, err = doc.With(d); err != nil {
		return nil, err
	}
	return &Memory{rand: rand, doc: doc}, nil
}

// Load is that of Store.
func (m *Memory) Load(context.Context) (*Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doc, nil
}

// Update is that of Store.
func (m *Memory) Update(_ context.Context, base uint64, next *Document) (*Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, err := Successor(m.doc, next, base, m.rand)
	if err != nil {
		return nil, err
	}
	m.doc = doc
	m.watchers.Tell(doc.Domain)
	return doc, nil
}

// Watch is that of Store.
func (m *Memory) Watch(ctx context.Context) <-chan *Domain {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watchers.Add(ctx, m.doc.Domain)
}
