package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/journal"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
)

// heardLately is within what time a downstream partner asks at least once.
const heardLately = 40 * time.Second

// asks reports whether a downstream partner has a connection here and asks for a
// folder.
func (m *member) asks(id repl.MemberID, folder repl.FolderID) bool {
	s := m.serving.Load()
	return s != nil && s.Connected(id) && time.Since(m.heard.last(id, folder)) < heardLately
}

// Status is that of control.Member.
func (m *member) Status(ctx context.Context, _ *controlpb.StatusRequest) (*controlpb.StatusReply, error) {
	d := m.domain().Domain
	master, here := m.dir.Master()
	r := &controlpb.StatusReply{
		Server: m.id.Name(), ServerId: m.id.Member().String(), Domain: d.Name, DomainId: d.ID.String(),
		Generation: d.Generation, Term: d.Term, Master: here, MasterServer: serverName(d, master),
		State: m.state.path, Pid: int64(os.Getpid()), Version: programVersion(),
		Started: timeText(m.started), Now: timeText(time.Now()), Database: m.reportDatabase(),
	}
	if s := d.Server(m.self()); s != nil {
		r.Server, r.Listen = s.Name, s.ListenAddresses()
	}
	for _, k := range m.folders.all() {
		f, err := m.reportFolder(ctx, d, k)
		if err != nil {
			return nil, err
		}
		r.Folders = append(r.Folders, f)
	}
	for _, v := range m.folders.disabled() {
		r.Folders = append(r.Folders, &controlpb.Folder{
			Name: v.Name(), Id: v.Folder.ID.String(), Path: v.Path, State: "disabled", Primary: v.Primary, ReadOnly: v.ReadOnly,
			In: &controlpb.Backlog{}, Out: &controlpb.Backlog{},
		})
	}
	for _, one := range m.partners.all() {
		r.Partners = append(r.Partners, m.reportPartner(d, one))
	}
	slices.SortFunc(r.Partners, func(a, b *controlpb.Partner) int { return strings.Compare(a.Server, b.Server) })
	r.Orders = reportOrders(m.windows.standing())
	r.Findings = reportFindings(m.find.set.List())
	for code, n := range m.find.set.Overflow() {
		r.Overflow = append(r.Overflow, &controlpb.Overflow{Code: string(code), Refused: n})
	}
	slices.SortFunc(r.Overflow, func(a, b *controlpb.Overflow) int { return strings.Compare(a.Code, b.Code) })
	return r, nil
}

func serverName(d *directory.Domain, id directory.UUID) string {
	if s := d.Server(id); s != nil {
		return s.Name
	}
	return id.String()
}

func memberName(d *directory.Domain, id repl.MemberID) string {
	return serverName(d, directory.UUID(id))
}

// timeText is a time as the API gives it, "" for none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func replTime(t repl.Time) string {
	if t == 0 {
		return ""
	}
	return timeText(time.Unix(0, int64(t)))
}

func reportFindings(list []finding.Finding) []*controlpb.Finding {
	var out []*controlpb.Finding
	for _, f := range list {
		out = append(out, &controlpb.Finding{
			Code: string(f.Code), Severity: f.Severity.String(), Object: f.Object, Detail: f.Detail,
			Since: timeText(f.Since), Text: f.Text, Remedy: f.Remedy,
		})
	}
	return out
}

func (m *member) reportDatabase() *controlpb.Database {
	db := m.database()
	if db == nil {
		return &controlpb.Database{Error: "it is being opened"}
	}
	s := db.Stats()
	d := &controlpb.Database{DiskBytes: s.Disk, LogBytes: s.Log, MemoryBytes: s.Memory, CacheBytes: s.Cache, Stalls: s.Stalls}
	if s.BackgroundError != nil {
		d.Error = s.BackgroundError.Error()
	}
	return d
}

func (m *member) reportPartner(d *directory.Domain, one *partner) *controlpb.Partner {
	s := one.State()
	p := &controlpb.Partner{
		Server: memberName(d, one.id), Id: one.id.String(), Since: timeText(s.Since),
		Heard: timeText(m.heard.last(one.id, repl.FolderID{})),
	}
	if server := d.Server(directory.UUID(one.id)); server != nil {
		p.Addresses = server.Addresses
	}
	if session := one.current(); session != nil {
		p.Connected, p.Address, p.Generation = true, session.Address(), session.Remote().Generation
	}
	if s.Err != nil {
		p.Error = s.Err.Error()
	}
	return p
}

// reportFolder describes one folder.
func (m *member) reportFolder(ctx context.Context, d *directory.Domain, k *keeper) (*controlpb.Folder, error) {
	f := &controlpb.Folder{
		Name: k.Name, Id: k.Folder.String(), Path: k.Path, Primary: k.Primary, ReadOnly: k.ReadOnly,
		In: &controlpb.Backlog{}, Out: &controlpb.Backlog{}, ServedBytes: k.served.Load(),
	}
	r, records, j, reason := k.open()
	if r == nil {
		f.State, f.Reason = "waiting", reason
		if reason == starting {
			f.State, f.Reason = starting, ""
		}
		return f, nil
	}
	s, err := r.Status(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		f.State, f.Reason = "stopped", err.Error()
		return f, nil
	}
	fillFolder(f, &s, j)
	f.Recent = k.news.note(&s, records)
	rates := k.rates.Now()
	f.InPerSecond, f.InBytesPerSecond, f.OutPerSecond, f.OutBytesPerSecond = rates.Installed, rates.InBytes, rates.Captured, rates.OutBytes
	if err := m.reportLinks(d, k, f, &s, records); err != nil {
		f.LastError = err.Error()
	}
	if f.In.Updates > 0 && rates.Installed > 0 {
		f.EtaSeconds = float64(f.In.Updates) / rates.Installed
	}
	return f, nil
}

func fillFolder(f *controlpb.Folder, s *engine.Status, j journal.Journal) {
	c := s.Counts
	f.State, f.Reason = s.Phase.String(), s.Stopped
	f.Journal, f.JournalReason = j.Kind().String(), j.Reason()
	f.Files, f.Directories, f.Symlinks, f.Bytes, f.Tombstones = c.Files, c.Directories, c.Links, c.Bytes, c.Tombstones
	f.Uncaptured, f.InFlight = int64(s.Dirty+s.Looking+s.Later), int64(s.InFlight)
	f.Captured, f.Installed, f.InstalledBytes = s.Stats.Captured, s.Stats.Installed, s.Stats.Bytes
	f.Conflicts, f.Open, f.RdcSavedBytes, f.SimilaritySavedBytes = s.Stats.Kept, int64(s.Open), s.Stats.Saved, s.Stats.Similar
	f.LastChange, f.Walking, f.LastError = replTime(s.Stats.LastChange), s.Walking, s.LastError
	f.Vector, f.Floor, f.Collected, f.Evicted = s.Vector.String(), s.Floor.String(), s.Stats.Collected, s.Evicted
	f.Retired = int64(s.Retired)
	f.SlowSyncs, f.Differed = s.Stats.Compared, s.Stats.Differed
}

// reportLinks describes the folder's connections. In is the union of what all
// upstreams have and this member lacks, out the largest of the downstreams'.
func (m *member) reportLinks(d *directory.Domain, k *keeper, f *controlpb.Folder, s *engine.Status, records *store.Folder) error {
	known := make(version.Vector)
	for i, id := range k.partners().Upstreams {
		l := s.Links[id]
		lacks := l.Known.Minus(s.Vector)
		known = known.Union(lacks)
		link := &controlpb.Link{
			Server: memberName(d, id), Direction: "in", Known: len(l.Known) > 0, Backlog: inbound(lacks), Held: int64(l.Held.Len()),
			RdcSavedBytes: l.Saved, SimilaritySavedBytes: l.Similar, CompressionSavedBytes: m.server.Meter.Partner(id).Packing(k.Folder),
		}
		win := m.windows.windowOf(k.Folder, id)
		link.Window, link.WindowUntil = win.String(), timeText(win.until)
		if link.SlowSync = replTime(l.SlowSync); i == 0 || link.SlowSync < f.SlowSync {
			f.SlowSync = link.SlowSync
		}
		if one := m.partners.one(id); one != nil && one.current() != nil {
			link.Connected, link.Heard = true, timeText(time.Now()) // a session that is silent ends by itself
		} else if one != nil {
			link.Heard = timeText(one.lastUp())
		}
		f.CompressionSavedBytes += link.CompressionSavedBytes
		f.Links = append(f.Links, link)
	}
	f.In = inbound(known)
	for _, id := range k.partners().Downstreams {
		at := m.heard.last(id, k.Folder)
		v, ok := s.Partners[id]
		link := &controlpb.Link{
			Server: memberName(d, id), Direction: "out", Connected: m.asks(id, k.Folder), Known: ok,
			Backlog: &controlpb.Backlog{}, Heard: timeText(at),
		}
		if until, paused := m.windows.paused(k.Folder, id); paused {
			link.Window, link.WindowUntil = "paused", timeText(until)
		}
		f.Links = append(f.Links, link)
		if !ok {
			continue
		}
		n, bytes, err := m.counts.count(heardKey{id, k.Folder}, records, s.Vector.Minus(v))
		if err != nil {
			return err
		}
		link.Backlog = &controlpb.Backlog{Updates: int64(n), Bytes: bytes}
		if int64(n) > f.Out.Updates {
			f.Out = link.Backlog
		}
	}
	return nil
}

// inbound is the backlog of versions that are known of and not here. What they
// are is told by the updates themselves; so their bytes are not known.
func inbound(lacks version.Vector) *controlpb.Backlog {
	b := &controlpb.Backlog{Updates: int64(lacks.Len())}
	if b.Updates > 0 {
		b.Bytes = -1
	}
	return b
}

// backlogCounts remembers counts that were expensive, for a multiple of what
// they cost, so that looking often does not become work. The zero value is
// ready.
type backlogCounts struct {
	mu   sync.Mutex
	last map[heardKey]counted // guarded by mu
}

type counted struct {
	updates int
	bytes   int64
	at      time.Time
	cost    time.Duration
}

const (
	cheapCount  = 5 * time.Millisecond
	countRepose = 20 // times its cost is how long a count is good
)

func (b *backlogCounts) count(key heardKey, records *store.Folder, want version.Vector) (int, int64, error) {
	if len(want) == 0 {
		return 0, 0, nil
	}
	b.mu.Lock()
	c, ok := b.last[key]
	b.mu.Unlock()
	if ok && c.cost > cheapCount && time.Since(c.at) < countRepose*c.cost {
		return c.updates, c.bytes, nil
	}
	began := time.Now()
	n, bytes, err := records.Count(want)
	if err != nil {
		return 0, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		b.last = make(map[heardKey]counted)
	}
	b.last[key] = counted{n, bytes, time.Now(), time.Since(began)}
	return n, bytes, nil
}
