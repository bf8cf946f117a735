package engine

import (
	"slices"
	"time"

	"opendfs/internal/finding"
	"opendfs/internal/repl"
)

// PartnersAre tells that the directory has other partners of this member, or other
// ways to bring contents from them. Exchanges with those that stay go on.
type PartnersAre struct {
	Upstreams, Downstreams []repl.MemberID
	Transfers              map[repl.MemberID]Transfer
}

func (e PartnersAre) apply(f *Folder) {
	for _, m := range f.cfg.Upstreams {
		if !slices.Contains(e.Upstreams, m) {
			f.leave(f.links[m])
		}
	}
	for _, m := range e.Upstreams {
		if f.links[m] == nil {
			f.links[m] = f.newLink(m)
		}
		f.links[m].transfer = e.Transfers[m]
	}
	f.greet(e.Downstreams)
	f.configure(func(c *Config) {
		c.Upstreams, c.Downstreams, c.Transfers = e.Upstreams, e.Downstreams, e.Transfers
	})
	for m := range f.partner {
		if !slices.Contains(e.Upstreams, m) && !slices.Contains(e.Downstreams, m) {
			delete(f.partner, m)
			delete(f.arrived, m)
		}
	}
}

// newLink is what is known of an upstream that is new, or known from before a start.
func (f *Folder) newLink(m repl.MemberID) *link {
	l := &link{member: m}
	for _, c := range f.st.State().Compared {
		if c.Partner == m {
			l.slowSync = c.At
		}
	}
	return l
}

// leave ends the exchange with an upstream that is none any more. What it brought
// and is under way is carried out; nothing of a diff that has not ended is joined. A
// link that comes back is another one, so that late answers are nobody's.
func (f *Folder) leave(l *link) {
	delete(f.links, l.member)
	l.up, l.idle, l.diff = false, false, nil
	if l.ask != nil {
		l.ask.again()
	}
	if f.compare != nil && f.compare.of == l {
		f.compare = nil
	}
	object := f.cfg.Name + " from " + l.member.String()
	for _, code := range []finding.Code{finding.ParkedUpdate, finding.PartnerStale, finding.PartnerBadMessage, finding.RecordsDiffer} {
		f.find.Clear(code, object)
	}
}

// lateNews is for how many times Config.VouchWait after a start news of the domain may
// be from before it.
const lateNews = 20

// greet waits for new downstream partners to vouch for this start, if they may have
// been given updates before it: while others are waited for, and as long as what the
// domain says may be older than the start, which heard of it late. Partners that are
// made later have what this database has made from nobody else. Those that go and have
// not vouched are still missed: they took with them what they know (rule 3).
func (f *Folder) greet(downstreams []repl.MemberID) {
	v := &f.vouch
	if v.waiting == nil || len(v.waiting) == 0 && f.now() >= v.since+lateNews*repl.Time(f.vouchWait()) {
		return
	}
	for _, m := range downstreams {
		if !slices.Contains(f.cfg.Downstreams, m) {
			v.waiting[m] = true
			v.until = f.now() + repl.Time(f.vouchWait())
		}
	}
}

// vouchWait is how long a start waits for partners at most.
func (f *Folder) vouchWait() time.Duration {
	if f.cfg.VouchWait == 0 {
		return vouchWait
	}
	return f.cfg.VouchWait
}
