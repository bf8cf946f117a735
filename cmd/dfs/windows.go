package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/schedule"
)

// windows keeps the connections over which this member pulls as their schedules and
// the standing orders allow: open or closed, and at what rate. The downstream is who
// obeys a schedule, in its own local time; the upstream sends at the rate granted.
type windows struct {
	log   *slog.Logger
	clock func() time.Time
	zone  *time.Location
	limit *peer.Limit // of what this member sends
	turns *peer.Turns // of the transfers that come in
	path  string      // of the file of standing orders
	// relink takes a session from a folder, or gives it, after its window has changed.
	relink  func(repl.FolderID, repl.MemberID)
	session func(repl.MemberID) *peer.Session
	poke    chan struct{} // holds one: judge again now

	granting sync.Mutex // serialises what sessions are told

	mu      sync.Mutex
	domain  *directory.Domain               // guarded by mu; nil at first
	self    directory.UUID                  // guarded by mu
	orders  []order                         // guarded by mu; the newest last
	gates   map[heardKey]*gate              // guarded by mu; by upstream partner and folder
	next    time.Time                       // guarded by mu; when something changes by itself
	judged  time.Time                       // guarded by mu; when the gates were judged last
	granted map[repl.MemberID]*grantedRates // guarded by granting
}

// gate is one folder's connection from one upstream partner.
type gate struct {
	group  repl.GUID
	window window
	// life ends when the window closes, with the reason; nil while it is closed.
	life context.Context
	end  context.CancelCauseFunc
	// busy counts requests for content; used is when it last was above 0, in
	// Unix nanoseconds.
	busy, used atomic.Int64
}

// window is what a connection may do for now.
type window struct {
	rate  schedule.Rate
	until time.Time // zero: for good
	order string    // pause or sync-now, if that is why
}

func (w window) open() bool { return w.rate > schedule.Closed }

// String is the window as the API tells it; "" is without limits.
func (w window) String() string {
	switch {
	case w.order == verbPause:
		return "paused"
	case w.order != "":
		return w.order
	case w.rate == schedule.Full:
		return ""
	}
	return w.rate.String()
}

// grantedRates is what one session was told.
type grantedRates struct {
	session *peer.Session
	rates   map[repl.GUID]uint64
}

var errWindow = errors.New("the connection is closed by its schedule or an order")

const (
	// windowTick bounds how late a window follows a clock that was set.
	windowTick = time.Second
	// busyFor is how long a connection keeps its share of max-rate after its last
	// request.
	busyFor = time.Second
	// idleShare is the part of max-rate that a connection begins with.
	idleShare = 50
)

// run follows the clock until ctx ends.
func (w *windows) run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.poke:
			w.judge(w.clock())
		case <-t.C:
			switch now := w.clock(); {
			case w.due(now):
				w.judge(now)
			case w.shares():
				w.grantAll()
			}
		}
		t.Reset(w.pause(w.clock()))
	}
}

func (w *windows) due(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Round(0): the wall clock counts, and it may have been set back.
	return now.Round(0).Before(w.judged) || !w.next.IsZero() && !now.Round(0).Before(w.next)
}

func (w *windows) pause(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next.IsZero() {
		return windowTick
	}
	return min(max(w.next.Sub(now.Round(0)), time.Millisecond), windowTick)
}

// shares reports whether connections share a max-rate: who is busy changes then.
func (w *windows) shares() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mostLocked() > 0
}

// mostLocked is this server's max-rate, 0 for none.
func (w *windows) mostLocked() schedule.Rate {
	if w.domain == nil {
		return 0
	}
	s := w.domain.Server(w.self)
	if s == nil {
		return 0
	}
	return s.MaxRate
}

// again has the windows judged at once.
func (w *windows) again() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// follow makes the windows as the domain says.
func (w *windows) follow(d *directory.Domain, self directory.UUID) {
	w.mu.Lock()
	w.domain, w.self = d, self
	w.limit.Set(uint64(w.mostLocked()))
	w.mu.Unlock()
	w.judge(w.clock())
}

// judge opens and closes what is to be open or closed at an instant.
func (w *windows) judge(now time.Time) {
	w.mu.Lock()
	changed := w.judgeLocked(now.Round(0))
	w.mu.Unlock()
	w.grantAll() // before anything is asked
	for _, key := range changed {
		w.relink(key.folder, key.partner)
	}
}

// judgeLocked returns the connections that have opened or closed.
func (w *windows) judgeLocked(now time.Time) (changed []heardKey) {
	w.judged, w.next = now, time.Time{}
	w.dropExpiredLocked(now)
	wanted := w.wantedLocked(now)
	for key, g := range w.gates {
		if _, ok := wanted[key]; !ok {
			g.shut()
			delete(w.gates, key)
		}
	}
	for key, g := range wanted {
		old := w.gates[key]
		if old == nil {
			old = &gate{group: g.group}
			w.gates[key] = old
		}
		was := old.window.open()
		old.group, old.window = g.group, g.window
		w.soonerLocked(g.window.until)
		if was == g.window.open() {
			continue
		}
		changed = append(changed, key)
		if was {
			old.shut()
		} else {
			old.life, old.end = context.WithCancelCause(context.Background())
		}
	}
	for _, o := range w.orders {
		w.soonerLocked(o.Until)
	}
	return changed
}

func (w *windows) soonerLocked(t time.Time) {
	if !t.IsZero() && (w.next.IsZero() || t.Before(w.next)) {
		w.next = t
	}
}

func (g *gate) shut() {
	if g.life != nil {
		g.end(errWindow)
		g.life, g.end = nil, nil
	}
}

// wantedLocked lists what this member pulls, with what it may do now.
func (w *windows) wantedLocked(now time.Time) map[heardKey]*gate {
	list := make(map[heardKey]*gate)
	if w.domain == nil {
		return list
	}
	me := w.domain.Server(w.self)
	type link struct{ group, from string }
	known := make(map[link]window) // folders of one connection share its schedule
	for _, v := range w.domain.Memberships(w.self) {
		if !v.Enabled {
			continue
		}
		for _, s := range w.domain.Upstreams(v.Folder.ID, w.self) {
			l := link{v.Group.Name, s.Name}
			win, ok := known[l]
			if !ok {
				win.rate, win.until = v.Group.ScheduleOf(s.Name, me.Name).At(now, w.zone)
				known[l] = win
			}
			if o := w.orderLocked(v.Group.Name, v.Folder.Name, s.Name, me.Name); o != nil {
				win = window{schedule.Full, o.Until, o.Verb}
				if o.Verb == verbPause {
					win.rate = schedule.Closed
				}
			}
			list[heardKey{repl.MemberID(s.ID), repl.FolderID(v.Folder.ID)}] = &gate{group: repl.GUID(v.Group.ID), window: win}
		}
	}
	return list
}

// pass is what a folder's upstream may be asked with: nil while the window is
// closed.
func (w *windows) pass(folder repl.FolderID, m repl.MemberID) *gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[heardKey{m, folder}]
	if g == nil || g.life == nil {
		return nil
	}
	return g
}

// lifeOf is what ends when the window closes.
func (w *windows) lifeOf(g *gate) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.life == nil {
		ended, cancel := context.WithCancelCause(context.Background())
		cancel(errWindow)
		return ended
	}
	return g.life
}

// windowOf tells the window of a folder's upstream connection.
func (w *windows) windowOf(folder repl.FolderID, m repl.MemberID) window {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.gates[heardKey{m, folder}]; g != nil {
		return g.window
	}
	return window{rate: schedule.Full}
}

// closedText says that a folder's connection from a partner is closed, and until
// when; "" if it is open.
func (w *windows) closedText(folder repl.FolderID, m repl.MemberID) string {
	win := w.windowOf(folder, m)
	if win.open() {
		return ""
	}
	return windowText(win.String(), timeText(win.until), w.clock())
}

// grantAll tells every session what has changed.
func (w *windows) grantAll() {
	w.mu.Lock()
	var list []repl.MemberID
	for key := range w.gates {
		list = append(list, key.partner)
	}
	w.mu.Unlock()
	slices.SortFunc(list, func(a, b repl.MemberID) int { return slices.Compare(a[:], b[:]) })
	list = slices.Compact(list)
	rates := w.rates(w.clock())
	// What gets less is told first, so that the sum never exceeds max-rate.
	for _, raise := range []bool{false, true} {
		for _, m := range list {
			if s := w.session(m); s != nil {
				w.grant(m, s, rates[m], raise)
			}
		}
	}
}

// greet tells a new session all rates before anything is asked.
func (w *windows) greet(m repl.MemberID, s *peer.Session) {
	w.grant(m, s, w.rates(w.clock())[m], true)
}

func (w *windows) grant(m repl.MemberID, s *peer.Session, want map[repl.GUID]uint64, raise bool) {
	w.granting.Lock()
	defer w.granting.Unlock()
	told := w.granted[m]
	if told == nil || told.session != s {
		told = &grantedRates{s, make(map[repl.GUID]uint64)}
		w.granted[m] = told
	}
	all := maps.Clone(told.rates) // what is wanted no more has no limit
	for group := range all {
		all[group] = 0
	}
	maps.Copy(all, want)
	for group, bits := range all {
		was := told.rates[group]
		if bits == was || !raise && (bits == 0 || was != 0 && bits > was) {
			continue
		}
		if err := s.Pace(group, bits); err != nil {
			return // the session has ended; the next one is told
		}
		told.rates[group] = bits
	}
}

// lane is a connection of a group, for all its folders.
type lane struct {
	partner repl.MemberID
	group   repl.GUID
}

// rates are what each partner is granted for each group, in bits per second; 0 is
// no limit.
func (w *windows) rates(now time.Time) map[repl.MemberID]map[repl.GUID]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := make(map[lane]schedule.Rate)
	busy := make(map[lane]bool)
	most := w.mostLocked()
	for key, g := range w.gates {
		l := lane{key.partner, g.group}
		open[l] = max(open[l], g.window.rate)
		if g.busy.Load() > 0 || now.UnixNano()-g.used.Load() < int64(busyFor) {
			busy[l] = true
		}
	}
	out := make(map[repl.MemberID]map[repl.GUID]uint64)
	for l, r := range open {
		switch {
		case most == 0:
		case busy[l]:
			r = min(r, max(most/schedule.Rate(len(busy)), schedule.Least))
		default:
			r = min(r, max(most/idleShare, schedule.Least))
		}
		if out[l.partner] == nil {
			out[l.partner] = make(map[repl.GUID]uint64)
		}
		switch r {
		case schedule.Full:
		case schedule.Closed: // what is under way must not be let go before it is cancelled
			out[l.partner][l.group] = uint64(schedule.Levels[1])
		default:
			out[l.partner][l.group] = uint64(r)
		}
	}
	return out
}

// use counts a request for content, and returns what ends it.
func (w *windows) use(g *gate) func() {
	if g.busy.Add(1) == 1 && w.shares() {
		w.again()
	}
	return func() {
		g.used.Store(w.clock().UnixNano())
		g.busy.Add(-1)
	}
}

// paused reports whether an order keeps a folder from being served to a partner.
func (w *windows) paused(folder repl.FolderID, partner repl.MemberID) (until time.Time, paused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.orders) == 0 || w.domain == nil {
		return time.Time{}, false
	}
	g, f := w.domain.Folder(directory.UUID(folder))
	me, to := w.domain.Server(w.self), w.domain.Server(directory.UUID(partner))
	if f == nil || me == nil || to == nil {
		return time.Time{}, false
	}
	o := w.orderLocked(g.Name, f.Name, me.Name, to.Name)
	if o == nil || o.Verb != verbPause || !o.Until.IsZero() && w.clock().After(o.Until) {
		return time.Time{}, false
	}
	return o.Until, true
}

// newWindows makes the windows of a member; it opens nothing before it follows a
// domain.
func newWindows(state *stateDir, limit *peer.Limit, log *slog.Logger) (*windows, error) {
	w := &windows{
		log: log, clock: time.Now, zone: time.Local, limit: limit, path: state.file(ordersName), poke: make(chan struct{}, 1),
		gates: make(map[heardKey]*gate), granted: make(map[repl.MemberID]*grantedRates),
	}
	var err error
	if w.orders, err = readOrders(w.path); err != nil {
		return nil, err
	}
	return w, nil
}

// standing lists the orders that hold.
func (w *windows) standing() []order {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Clone(w.orders)
	slices.SortStableFunc(list, func(a, b order) int { return cmp.Compare(a.Object, b.Object) })
	return list
}
