package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/fetch"
	"opendfs/internal/install"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// Upstream is a session with a partner that this member downloads from. Every
// method blocks until it is answered and returns an error when the session is
// lost.
type Upstream interface {
	Diff(ctx context.Context, req wire.DiffRequest) (wire.DiffPage, error)
	Records(ctx context.Context, folder repl.FolderID, uids []repl.UID) (wire.RecordsReply, error)
	Barrier(ctx context.Context, folder repl.FolderID) (version.Vector, error)
	// Cover tells what members are known to cover, and returns what the partner
	// has heard.
	Cover(ctx context.Context, folder repl.FolderID, heard []repl.Statement) ([]repl.Statement, error)
	// Compare returns runs of the partner's records, or records one by one.
	Compare(ctx context.Context, req wire.CompareRequest) (wire.CompareReply, error)
	fetch.Upstream
}

// Context is what an action runs in.
type Context struct {
	context.Context
	*Env
}

// Look looks at names of one directory.
type Look struct {
	Work  capture.Work
	cfg   *Config
	doubt capture.Doubt
	lazy  bool // nothing is served yet: durable all at once, at the end
}

// Class says that it reads the tree.
func (*Look) Class() Class { return ClassLook }

// Run posts drafts as they are found, then that the look is over.
func (a *Look) Run(ctx Context, post func(Event)) {
	out := chunks{env: ctx.Env, cfg: a.cfg, post: post, lazy: a.lazy}
	deps := ctx.captureDeps(a.cfg)
	deps.Doubt, deps.Undoes = a.doubt, a.cfg.ReadOnly
	if !a.lazy { // what a walk of the whole tree reads is signed when it is asked for
		deps.Sign = signer(ctx.Staging, a.cfg.minDelta())
	}
	result, err := capture.Look(ctx, deps, &a.Work, out.add)
	err = errors.Join(err, out.sync())
	post(looked{{&a.Work, a.cfg, out.drafts, result, err, a.lazy}})
}

// chunks gathers drafts into events; a group stays together.
type chunks struct {
	env    *Env
	cfg    *Config
	drafts []capture.Draft
	post   func(Event)
	lazy   bool
}

// sync makes durable what the drafts at hand are about, and lets go of those
// that cannot be.
func (c *chunks) sync() error {
	if c.lazy || len(c.drafts) == 0 {
		return nil
	}
	held, lost, err := c.env.makeDurable(c.drafts)
	if c.drafts = held; err != nil {
		c.drafts = nil
		return err
	}
	if len(lost) > 0 {
		c.post(overtakenDrafts(lost))
	}
	return nil
}

func (c *chunks) add(d capture.Draft) error {
	if n := len(c.drafts); n >= draftChunk && (d.Group == 0 || d.Group != c.drafts[n-1].Group) {
		if err := c.sync(); err != nil {
			return err
		}
		c.post(drafted{c.drafts, c.cfg, c.lazy})
		c.drafts = nil
	}
	c.drafts = append(c.drafts, d)
	return nil
}

func (e *Env) captureDeps(cfg *Config) *capture.Deps {
	return &capture.Deps{Volume: e.Volume, Records: e.Store, Filter: cfg.Filter, Fold: e.Store.State().Folds, Root: repl.RootUID(cfg.Folder), Now: e.Now, Rest: cfg.Rest, Racy: e.Racy, Apart: e.Workers > 0, Nested: &e.nested}
}

// LookGone looks into names that were not there.
type LookGone struct {
	UIDs []repl.UID
	cfg  *Config
}

// Class says that it reads the tree.
func (*LookGone) Class() Class { return ClassLook }

// Run posts the deletions that are proved.
func (a *LookGone) Run(ctx Context, post func(Event)) {
	out := chunks{env: ctx.Env, cfg: a.cfg, post: post}
	deps := ctx.captureDeps(a.cfg)
	deps.Undoes = a.cfg.ReadOnly
	result, err := capture.Gone(ctx, deps, a.UIDs, out.add)
	err = errors.Join(err, out.sync())
	post(goneLooked{a, out.drafts, result, err})
}

// Ask asks a partner for a page of what is missing here.
type Ask struct {
	Member  repl.MemberID
	Request wire.DiffRequest
	Until   repl.Time // wait no longer for news; 0: as long as the partner likes

	link    *link
	session Upstream           // whom it is asked in: in another one it would be wrong (rule 3)
	nth     uint64             // of the link's sessions
	retired *Retired           // what the vector may leave out; nil: nothing
	own     version.Originator // under which this member was when it was asked
	life    context.Context    // ends when it is to wait no longer
	again   context.CancelFunc
}

// Session is the one in which it is asked.
func (a *Ask) Session() Upstream { return a.session }

// Over reports whether it is to wait for news no longer.
func (a *Ask) Over(now repl.Time) bool {
	return a.Until > 0 && now >= a.Until || a.life != nil && a.life.Err() != nil
}

// Class says that it waits for a partner.
func (*Ask) Class() Class { return ClassAsk }

// Run posts the page.
func (a *Ask) Run(ctx Context, post func(Event)) {
	page, err := a.diff(ctx)
	post(asked{a.link, a.Request.Vector, a.own, a.nth, page, err})
}

func (a *Ask) diff(ctx Context) (wire.DiffPage, error) {
	if a.session == nil || ctx.Upstream(a.Member) == nil {
		return wire.DiffPage{}, errNoSession
	}
	limited, cancel := context.WithCancel(ctx)
	if a.Until > 0 {
		limited, cancel = context.WithTimeout(ctx, time.Duration(a.Until-ctx.Now()))
	}
	defer cancel()
	defer context.AfterFunc(a.life, cancel)()
	page, err := a.session.Diff(limited, a.short())
	err = errors.Join(err, a.whole(&page))
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errWaited
	}
	return page, err
}

// AskRecords asks a partner for the current records of objects.
type AskRecords struct {
	Member  repl.MemberID
	Folder  repl.FolderID
	UIDs    []repl.UID
	link    *link
	of      *diff
	waiting []repl.Update
	round   int
}

// Class says that it waits for a partner.
func (*AskRecords) Class() Class { return ClassAsk }

// Run posts the records.
func (a *AskRecords) Run(ctx Context, post func(Event)) {
	ev := recordsAsked{link: a.link, of: a.of, waiting: a.waiting, round: a.round, err: errNoSession}
	if up := ctx.Upstream(a.Member); up != nil {
		ev.reply, ev.err = up.Records(ctx, a.Folder, a.UIDs)
	}
	post(ev)
}

// errReserve says that the volume's free space is below the reserve.
var errReserve = errors.New("free space is below the reserve")

// Stage brings the contents of a batch.
type Stage struct {
	batch    *batch
	cfg      *Config
	transfer Transfer
}

// Class says that it brings content.
func (*Stage) Class() Class { return ClassStage }

// Run posts what was brought; what was not has its reason.
func (a *Stage) Run(ctx Context, post func(Event)) {
	changes := a.batch.changes
	out := make([]fetch.Staged, len(changes))
	var wanted []fetch.Wanted
	var index []int
	var bytes int64
	for i := range changes {
		if c := changes[i]; c.Content && c.Update.Type == repl.File {
			w := fetch.Wanted{Update: c.Update, Local: ctx.seeds(&c.Update)}
			if len(w.Local) == 0 {
				w.Old = ctx.old(&c.Update, min(leastOld, a.cfg.minDelta()))
			}
			wanted = append(wanted, w)
			index = append(index, i)
			bytes += c.Update.Size
		}
	}
	got, err := a.fetch(ctx, wanted, bytes)
	for n, i := range index {
		if err != nil && (got == nil || got[n].Temp == nil && got[n].Err == nil) {
			out[i].Err = err
			continue
		}
		out[i] = got[n]
	}
	post(staged{a.batch, out, err})
}

func (a *Stage) fetch(ctx Context, wanted []fetch.Wanted, bytes int64) ([]fetch.Staged, error) {
	free, _, err := ctx.Volume.Free()
	if err == nil && free < a.cfg.Reserve+uint64(bytes) && ctx.Staging != nil {
		ctx.Staging.DropParts() // room that was kept for what may come some time
		free, _, err = ctx.Volume.Free()
	}
	if err != nil {
		return nil, err
	}
	if free < a.cfg.Reserve+uint64(bytes) {
		return nil, fmt.Errorf("%w: %d bytes are free, %d are to come", errReserve, free, bytes)
	}
	up := ctx.Upstream(a.batch.link.member)
	if up == nil {
		return nil, errNoSession
	}
	s := ctx.stager(a.cfg, a.transfer)
	return s.Stage(ctx, up, wanted)
}

// seeds lists files of this member that have the content already.
func (e *Env) seeds(u *repl.Update) []fetch.Local {
	if u.Size < minLocalSeed {
		return nil
	}
	recs, err := e.Store.ByContent(u.Content, u.Size)
	if err != nil {
		return nil // the partner has it too
	}
	var out []fetch.Local
	for i := range recs {
		if l, err := e.localOf(&recs[i]); err == nil && len(out) < localSeeds {
			out = append(out, l)
		}
	}
	return out
}

// localOf says where the file of a record lies.
func (e *Env) localOf(rec *repl.Record) (fetch.Local, error) {
	dir, err := e.Store.Canonical(rec.Parent)
	if err != nil {
		return fetch.Local{}, err
	}
	path, err := e.Store.Path(dir)
	return fetch.Local{Dir: path, Name: rec.Name, Identity: rec.Identity, Print: rec.Print}, err
}

// Install carries out a batch.
type Install struct {
	batch *batch
	cfg   *Config
}

// setters is how many goroutines set metadata: more wait for one journal.
const setters = 2

// Class says that it changes the tree.
func (*Install) Class() Class { return ClassInstall }

// Run makes content and intents durable, moves everything into place, makes
// the moves durable and posts the outcomes (rule 14).
func (a *Install) Run(ctx Context, post func(Event)) {
	b := &install.Batch{
		Volume: ctx.Volume, Directories: ctx.directory, Items: a.batch.items(), Workers: min(ctx.Workers, setters),
		Keep: func(from volume.Dir, name string, c *repl.Change) (string, error) {
			return ctx.keep(a.cfg, from, name, c)
		},
		Replicates: lone{ctx.Env, a.cfg}.replicates, Clear: lone{ctx.Env, a.cfg}.clear,
	}
	b.Outcomes = make([]install.Outcome, len(b.Items))
	for i := range b.Items {
		b.Outcomes[i].Err = a.batch.staged[i].Err
	}
	err := a.prepare(ctx, b)
	if err == nil {
		if err = b.Run(ctx); err == nil {
			err = b.SyncDirs(a.batch.bulk, ctx.Workers > 0)
		}
	}
	ev := installed{batch: a.batch, outcomes: b.Outcomes, touched: b.Touched, err: err}
	if err == nil && b.Displaced() {
		ev.dispose = &Dispose{b}
	} else {
		err = b.Close()
	}
	post(ev)
	if err != nil {
		post(trouble{a.cfg.Name, err})
	}
}

// prepare makes contents and intents durable, side by side. A group of which one
// has failed already gets no intents: what concerns records alone would pass for
// done after a crash.
func (a *Install) prepare(ctx Context, b *install.Batch) error {
	put := store.Batch{AddIntents: make([]store.Intent, 0, len(b.Items))}
	broken := make(map[int]bool)
	for i := range b.Items {
		if g := b.Items[i].Change.Group; g != 0 && b.Outcomes[i].Err != nil {
			broken[g] = true
		}
	}
	put.AddIntents = make([]store.Intent, 0, min(len(b.Items), batchItems))
	return b.SyncTemps(a.batch.bulk, ctx.Workers > 0, func() error {
		for i := range b.Items {
			it := &b.Items[i]
			if b.Outcomes[i].Err != nil || broken[it.Change.Group] || !intended(it.Change) {
				continue
			}
			if len(put.AddIntents) == batchItems && a.batch.metaAlone() { // no group is torn; the last ones make all durable
				put.NoSync = true
				if err := ctx.Store.Put(&put); err != nil {
					return err
				}
				put.AddIntents, put.NoSync = put.AddIntents[:0], false
			}
			put.AddIntents = append(put.AddIntents, intent(i, it))
		}
		if len(put.AddIntents) == 0 {
			return nil
		}
		return ctx.Store.Put(&put)
	})
}

func intent(seq int, it *install.Item) store.Intent {
	c := it.Change
	return store.Intent{
		Seq: uint64(seq), Group: uint64(c.Group), Drop: c.Drop, Verdict: c.Verdict,
		UID: c.Update.UID, GVSN: c.Update.GVSN, Base: c.Base(), From: c.From, Place: c.To, Update: c.Update, Keep: c.Keep,
		Identity: it.TempStat.Identity, Print: it.TempStat.Print,
		Displaced: c.Object.Identity, DisplacedPrint: c.Object.Print,
	}
}

// directory says where a directory on record lies and what it is.
func (e *Env) directory(uid repl.UID) (string, repl.Identity, bool, error) {
	uid, err := e.Store.Canonical(uid)
	if err != nil {
		return "", repl.Identity{}, false, err
	}
	rec, ok, err := e.Store.Get(uid)
	if err != nil || !ok || !rec.Present || rec.Presence != repl.OnDisk {
		return "", repl.Identity{}, false, err
	}
	path, err := e.Store.Path(uid)
	return path, rec.Identity, err == nil, err
}

// keep puts what an install displaced into the conflict store.
func (e *Env) keep(cfg *Config, from volume.Dir, name string, c *repl.Change) (string, error) {
	path, err := e.Store.Path(c.Object.UID)
	if err != nil {
		path = c.Object.Name
	}
	why := c.Keep
	if why == repl.KeepNothing { // it was not what the verdict was made on
		why = repl.KeepConflict
	}
	return e.Keep.Keep(from, name, preserve.Entry{
		Why: preserve.Because(why), At: e.Now(), Path: path, Record: c.Object.Update, Winner: c.Update.GVSN,
	})
}

// Dispose removes what a batch displaced, when its records are stored.
type Dispose struct{ batch *install.Batch }

// Class says that it changes the tree.
func (*Dispose) Class() Class { return ClassInstall }

// Run removes the displaced objects; what cannot be removed stays in
// `.dfsr/installing` and is kept at the next start.
func (a *Dispose) Run(_ Context, post func(Event)) {
	if err := errors.Join(a.batch.Dispose(), a.batch.Close()); err != nil {
		post(trouble{"installing area", err})
	}
}

// trouble is an error that stops nothing.
type trouble struct {
	object string
	err    error
}

func (e trouble) apply(f *Folder) { f.stats.lastError = fmt.Sprintf("%s: %v", e.object, e.err) }
