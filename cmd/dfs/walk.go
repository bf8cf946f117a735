package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/peer"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/wire"
)

// walk gathers the stations of one object on its way. Verdict is the first
// thing that stops or delays it.
type walk struct {
	m       *member
	p       place
	records *store.Folder
	status  engine.Status
	reply   *controlpb.ExplainReply
}

// Explain is that of control.Member.
func (m *member) Explain(ctx context.Context, req *controlpb.ExplainRequest) (*controlpb.ExplainReply, error) {
	p, err := m.folders.locate(string(req.Path))
	if err != nil {
		return nil, err
	}
	w := &walk{m: m, p: p, reply: &controlpb.ExplainReply{Object: p.String()}}
	r, records, err := p.k.running()
	if err != nil {
		w.step("folder", "stop", "%v", err)
	} else {
		w.records = records
		if w.status, err = r.Status(ctx); err != nil {
			return nil, err
		}
		if err := w.run(ctx); err != nil {
			return nil, err
		}
	}
	for _, f := range m.find.of(p.k.Name) {
		about := strings.TrimPrefix(f.Object, p.k.Name)
		if about == "" || about == ":"+p.rel || strings.HasSuffix(p.rel, "/"+strings.TrimPrefix(about, ":")) {
			w.reply.Findings = append(w.reply.Findings, reportFindings(list(f))...)
		}
	}
	if w.reply.Verdict == "" {
		w.reply.Verdict = "In order: this version is on this server and on every partner that it knows of."
	}
	return w.reply, nil
}

func list[T any](v T) []T { return []T{v} }

func (w *walk) step(name, mark, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if w.reply.Verdict == "" && (mark == "stop" || mark == "wait") {
		w.reply.Verdict = "Not in order: " + text + "."
	}
	w.reply.Steps = append(w.reply.Steps, &controlpb.Step{Name: name, Mark: mark, Text: text})
}

// run goes from station to station.
func (w *walk) run(ctx context.Context) error {
	if w.p.inPrivate() {
		w.step("private area", "stop", "what lies in .dfsr belongs to this member and never replicates")
		return nil
	}
	w.folder()
	info, err := w.p.onDisk()
	if err != nil {
		w.step("disk", "stop", "it cannot be looked at: %v", err)
	}
	w.disk(info)
	if !w.filter(info) {
		return nil
	}
	rec, _, ok, err := w.p.record(w.records)
	if err != nil {
		return err
	}
	if !ok {
		w.unrecorded(info)
		w.elsewhere(ctx)
		return nil
	}
	if info != nil && !rec.Parent.IsZero() && rec.Name != info.Name() {
		w.step("name", "stop", "%q is on record, and in this folder both are one name; this one stays where it is, and does not replicate", rec.Name)
		return nil
	}
	w.record(&rec)
	w.captured(&rec, info)
	w.partners(ctx, &rec)
	return nil
}

func (w *walk) folder() {
	k, s := w.p.k, &w.status
	switch {
	case s.Stopped != "":
		w.step("folder", "stop", "%s is stopped by the finding %s", k.Name, s.Stopped)
	case s.Phase != wire.PhaseNormal:
		w.step("folder", "wait", "%s is in its %v; what is found here is not sent before that is over", k.Name, s.Phase)
	default:
		w.step("folder", "ok", "%s is Normal", k.Name)
	}
}

func (w *walk) disk(info fs.FileInfo) {
	if info == nil {
		w.step("disk", "info", "there is nothing at that place on this server")
		return
	}
	kind := kindOf(info)
	if kind == repl.Other {
		w.step("disk", "stop", "%v: of a kind that does not replicate", info.Mode())
		return
	}
	text := kind.String()
	if kind == repl.File {
		text += ", " + thousands(info.Size()) + " bytes"
	}
	w.step("disk", "ok", "%s, modified %s", text, info.ModTime().Format("2006-01-02 15:04:05"))
}

func kindOf(info fs.FileInfo) repl.Type {
	switch {
	case info.IsDir():
		return repl.Directory
	case info.Mode().IsRegular():
		return repl.File
	case info.Mode()&fs.ModeSymlink != 0:
		return repl.Symlink
	}
	return repl.Other
}

// filter reports whether the name replicates.
func (w *walk) filter(info fs.FileInfo) bool {
	of := w.p.k.terms.Load().Rules
	set, err := filter.New(of)
	if err != nil {
		w.step("filter", "stop", "%v", err)
		return false
	}
	if set.MatchPath(w.p.rel, info != nil && info.IsDir()) {
		rules := slices.Concat(of.Files, of.Directories)
		w.step("filter", "stop", "the folder's filter keeps this name out (%s)", strings.Join(rules, ", "))
		return false
	}
	w.step("filter", "ok", "no filter keeps it out")
	return true
}

// unrecorded says why what is on disk has no record.
func (w *walk) unrecorded(info fs.FileInfo) {
	if info == nil {
		w.step("record", "info", "no ID record of a live object at that place")
		return
	}
	w.step("record", "wait", "no ID record yet: %s", w.notYet())
}

// notYet says what capture waits for, as far as it is known.
func (w *walk) notYet() string {
	s := &w.status
	switch {
	case s.Walking:
		return "the tree is being compared with the database, and this place has not come up"
	case s.Dirty+s.Looking+s.Later > 0:
		return fmt.Sprintf("%d names are still to be looked at", s.Dirty+s.Looking+s.Later)
	case s.Open > 0:
		return fmt.Sprintf("perhaps it is one of %d files that are open for writing; it is captured when it is closed or at rest", s.Open)
	case w.p.k.ReadOnly:
		return "this member is read-only, and what is changed here does not count"
	}
	return "no change was noticed; it is found by the next walk of the tree at the latest"
}

func (w *walk) record(rec *repl.Record) {
	w.step("record", "ok", "version %v, made by %s, %s", rec.GVSN, madeBy(rec.GVSN.Originator, w.records), clockTime(replTime(rec.Clock)))
	switch {
	case rec.Provisional:
		w.step("record", "wait", "found here, not compared with the partner's tree yet")
	case rec.Presence == repl.Hidden:
		w.step("record", "stop", "not on this disk: a filter or another name of this server hides it; it is kept for other members")
	case rec.Presence == repl.Carried:
		w.step("record", "stop", "not on this disk, which cannot hold it; it is kept for other members")
	case rec.Presence == repl.Obscured:
		w.step("record", "stop", "its state on this disk is not known: something is mounted over it, or it cannot be listed")
	case rec.Presence == repl.Absent:
		w.step("record", "wait", "its content has not arrived")
	}
}

// captured compares the record with the disk.
func (w *walk) captured(rec *repl.Record, info fs.FileInfo) {
	if rec.Presence != repl.OnDisk {
		return
	}
	switch {
	case info == nil:
		w.step("captured", "wait", "it is gone from the disk, and that is not captured yet: %s", w.notYet())
	case kindOf(info) != rec.Type:
		w.step("captured", "wait", "another object has taken its place, and that is not captured yet: %s", w.notYet())
	case rec.Type == repl.File && (info.Size() != rec.Print.Size || repl.Time(info.ModTime().UnixNano()) != rec.Print.Mtime):
		w.step("captured", "wait", "the file has changed since, and that is not captured yet: %s", w.notYet())
	default:
		w.step("captured", "ok", "the record is what is on disk")
	}
}

// partners says who has the version, and whether somebody has a newer one.
func (w *walk) partners(ctx context.Context, rec *repl.Record) {
	if rec.Provisional {
		return
	}
	d := w.m.domain().Domain
	for _, id := range w.all() {
		name := memberName(d, id)
		session := w.m.session(id)
		if session != nil && slices.Contains(w.p.k.partners().Upstreams, id) {
			if theirs, ok := w.askPartner(ctx, session, name, rec); ok {
				w.compare(name, rec, theirs, slices.Contains(w.p.k.partners().Downstreams, id))
				continue
			}
		}
		w.downstream(name, id, rec)
	}
	if len(w.all()) == 0 {
		w.step("partners", "info", "there is no other member of this folder")
	}
}

// all are the folder's partners in either direction.
func (w *walk) all() []repl.MemberID {
	ids := slices.Clone(w.p.k.partners().Downstreams)
	for _, id := range w.p.k.partners().Upstreams {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// askPartner asks for the partner's own record; nil if it has none.
func (w *walk) askPartner(ctx context.Context, s *peer.Session, name string, rec *repl.Record) (*repl.Update, bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := s.Records(ctx, w.p.k.Folder, []repl.UID{rec.UID})
	if err != nil {
		w.step(name, "info", "could not be asked: %v", err)
		return nil, false
	}
	if len(r.Updates) == 0 {
		return nil, true
	}
	return &r.Updates[0], true
}

// askTime bounds one question to a partner.
const askTime = 5 * time.Second

// compare says how a partner's record stands to ours. pulls says whether it
// pulls from this server.
func (w *walk) compare(name string, rec *repl.Record, theirs *repl.Update, pulls bool) {
	switch {
	case !pulls && (theirs == nil || repl.Compare(theirs, &rec.Update) < 0):
		w.step(name, "stop", "%s does not have it, and no connection leads from this server to it", name)
	case theirs == nil:
		w.step(name, "wait", "%s does not have it yet", name)
	case theirs.GVSN == rec.GVSN:
		w.step(name, "ok", "has this version")
	case repl.Compare(theirs, &rec.Update) < 0:
		w.step(name, "wait", "%s has an older version (%v)", name, theirs.GVSN)
	default:
		what := "a newer version"
		if !theirs.Present {
			what = "a deletion"
		}
		w.step(name, "wait", "%s has %s (%v), which is not here yet: %s", name, what, theirs.GVSN, w.whyNot(theirs))
	}
}

func (w *walk) whyNot(u *repl.Update) string {
	link, from := engine.LinkStatus{}, repl.MemberID{}
	for id, l := range w.status.Links {
		if l.Held.Contains(u.GVSN) {
			link, from = l, id
		}
		if repl.GUID(from).IsZero() && w.m.windows.closedText(w.p.k.Folder, id) != "" {
			from = id
		}
	}
	return w.m.whyNot(w.p.k, &w.status, &link, from, u)
}

// downstream goes by what a partner said that it knows.
func (w *walk) downstream(name string, id repl.MemberID, rec *repl.Record) {
	at := w.m.heard.last(id, w.p.k.Folder)
	v, known := w.status.Partners[id]
	switch {
	case known && v.Contains(rec.GVSN):
		w.step(name, "ok", "has this version, or a newer one")
	case at.IsZero():
		w.step(name, "wait", "%s has not asked for this folder since this member started", name)
	case !w.m.asks(id, w.p.k.Folder):
		w.step(name, "wait", "%s does not have it yet, and was last heard %s ago", name, short(time.Since(at)))
	default:
		w.step(name, "wait", "%s does not have it yet; it lacks %d updates", name, w.status.Vector.Minus(v).Len())
	}
}

// elsewhere looks for the place among the updates that are not here yet.
func (w *walk) elsewhere(ctx context.Context) {
	d := w.m.domain().Domain
	for _, id := range w.p.k.partners().Upstreams {
		name := memberName(d, id)
		l := w.m.inboundList(ctx, w.records, w.p.k, &w.status, id, maxListed)
		i := slices.IndexFunc(l.Updates, func(u *controlpb.UpdateLine) bool { return u.Path == w.p.rel })
		switch {
		case i >= 0 && l.Updates[i].Deleted:
			w.step(name, "info", "has a deletion of it that is not here yet")
		case i >= 0:
			w.step(name, "wait", "%s has it (%v), and it is not here yet: %s", name, l.Updates[i].Gvsn, l.Updates[i].Reason)
		case l.Problem != "":
			w.step(name, "info", "%s", l.Problem)
		default:
			w.step(name, "info", "has nothing there that this server does not know")
		}
	}
	if w.reply.Verdict == "" {
		w.reply.Verdict = "There is no such object, on this server or on its way to it."
	}
}
