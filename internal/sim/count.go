package sim

import (
	"fmt"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/repl"
)

// Counters say what a run has been through.
type Counters struct {
	Steps, UserOps, Crashes, Kills, Stops, Cuts, Yields int
	Verdicts                                            [repl.Verdicts]uint64
	Torn, Resumed                                       int            // streams cut in the middle, and contents that went on where they were
	Forms                                               [4]int         // contents that came, by wire.Form
	Listings, Mounts                                    int            // listings that broke off, and filesystems mounted over directories
	BesideLook, BesideInstall, OldHandles               int            // users' acts in the middle of a look or an install, or by a handle of before
	Images                                              [rollbacks]int // members put back, by what was
	Intents                                             int            // starts that found installs under way
	Asked                                               int            // questions by UID
	Redecided                                           int            // installs that met a changed tree
	Saves, Moves                                        int            // users' saves by replace, and moves
	Seconds                                             int            // objects left alone at a rest, beside another spelling of their name
	Reanimated                                          int            // deleted objects that came back under their names
	Filters, Live                                       int            // changes of a member's filter; of them, those that it took as it ran
	Missing                                             int            // records that no member has the object of, after a filter was lifted
	Hidden                                              int            // live records that a filter hides, at a rest
	Collected                                           int            // tombstones
	Evicted, Readmitted                                 int            // databases put out for being away, and members that came back with another
	Anew                                                int            // members that started anew, not authoritatively
	Stale                                               int            // of them, those that a partner refused a diff
	Away                                                int            // times that a member was away while days went by
	Short                                               int            // updates that came short: the mtime alone had changed
	Rejected                                            int            // updates answered because they were rejected
	Clamped                                             int            // times that a fast clock was not believed
	Fenced, Replaced                                    int            // updates of authoritative restores, and trees given up for another's
	Rots                                                [rots]int      // records that rotted, by how
	Differed                                            int            // records that slow syncs found to differ
	Retired                                             int            // vectors that left out retired originators
	Compared                                            int            // slow syncs at rest, that found nothing
	Rewired                                             int            // changes of who asks whom
	Rules                                               [28]int
}

// Add adds what another run has been through.
func (s *Counters) Add(o *Counters) {
	for _, n := range [...]struct{ to, from *int }{
		{&s.Steps, &o.Steps}, {&s.UserOps, &o.UserOps}, {&s.Crashes, &o.Crashes}, {&s.Kills, &o.Kills}, {&s.Stops, &o.Stops},
		{&s.Cuts, &o.Cuts}, {&s.Yields, &o.Yields}, {&s.Torn, &o.Torn}, {&s.Resumed, &o.Resumed}, {&s.Listings, &o.Listings},
		{&s.Mounts, &o.Mounts}, {&s.BesideLook, &o.BesideLook}, {&s.BesideInstall, &o.BesideInstall}, {&s.OldHandles, &o.OldHandles},
		{&s.Intents, &o.Intents}, {&s.Asked, &o.Asked}, {&s.Redecided, &o.Redecided}, {&s.Saves, &o.Saves}, {&s.Moves, &o.Moves},
		{&s.Seconds, &o.Seconds}, {&s.Reanimated, &o.Reanimated}, {&s.Filters, &o.Filters}, {&s.Live, &o.Live}, {&s.Missing, &o.Missing}, {&s.Hidden, &o.Hidden}, {&s.Short, &o.Short},
		{&s.Collected, &o.Collected}, {&s.Evicted, &o.Evicted}, {&s.Readmitted, &o.Readmitted}, {&s.Anew, &o.Anew}, {&s.Stale, &o.Stale}, {&s.Away, &o.Away},
		{&s.Rejected, &o.Rejected}, {&s.Clamped, &o.Clamped}, {&s.Fenced, &o.Fenced}, {&s.Replaced, &o.Replaced},
		{&s.Differed, &o.Differed}, {&s.Compared, &o.Compared}, {&s.Retired, &o.Retired},
		{&s.Rewired, &o.Rewired},
	} {
		*n.to += *n.from
	}
	for i := range s.Verdicts {
		s.Verdicts[i] += o.Verdicts[i]
	}
	for i := range s.Images {
		s.Images[i] += o.Images[i]
	}
	for i := range s.Rots {
		s.Rots[i] += o.Rots[i]
	}
	for i := range s.Forms {
		s.Forms[i] += o.Forms[i]
	}
	for i := range s.Rules {
		s.Rules[i] += o.Rules[i]
	}
}

// tally counts the verdicts of a step.
func (m *Member) tally() {
	stats := m.folder.Stats()
	for i, n := range stats.Verdicts {
		m.c.Count.Verdicts[i] += n - m.counts[i]
	}
	m.c.Count.Redecided += int(stats.Redecided - m.redecided)
	m.c.Count.Reanimated += int(stats.Reanimated - m.reanimated)
	m.c.Count.Collected += int(stats.Collected - m.collected)
	m.c.Count.Fenced += int(stats.Fenced - m.fenced)
	m.c.Count.Differed += int(stats.Differed - m.differed)
	m.fenced, m.differed = stats.Fenced, stats.Differed
	m.counts, m.redecided, m.reanimated = stats.Verdicts, stats.Redecided, stats.Reanimated
}

// begun counts actions.
func (c *Cluster) begun(a engine.Action) {
	if _, ok := a.(*engine.AskRecords); ok {
		c.Count.Asked++
	}
}

// beside counts what a user did in the middle of an action.
func (c *Cluster) beside(a engine.Action) {
	switch a.(type) {
	case *engine.Look, *engine.LookGone:
		c.Count.BesideLook++
	case *engine.Install:
		c.Count.BesideInstall++
	}
}

// Row is one line of a coverage table.
type Row struct {
	What string
	Seen int
}

// Table says how often each verdict, fault and rule came up. What is not in it
// the simulator does not show.
func (s *Counters) Table() []Row {
	var rows []Row
	for v := range repl.Verdicts {
		rows = append(rows, Row{"verdict " + repl.Verdict(v).String(), int(s.Verdicts[v])})
	}
	return append(rows,
		Row{"fault: power cut", s.Crashes},
		Row{"fault: process killed", s.Kills},
		Row{"fault: member stopped", s.Stops},
		Row{"fault: link cut or restored", s.Cuts},
		Row{"fault: stream cut in the middle", s.Torn},
		Row{"fault: listing broken off", s.Listings},
		Row{"fault: database of the past", s.Images[rollStore]},
		Row{"fault: tree of the past", s.Images[rollTree]},
		Row{"fault: both of the past", s.Images[rollBoth]},
		Row{"fault: database of another server", s.Images[rollCopy]},
		Row{"fault: mounted over", s.Mounts},
		Row{"fault: user acts inside a look", s.BesideLook},
		Row{"fault: user acts inside an install", s.BesideInstall},
		Row{"fault: user writes by an old handle", s.OldHandles},
		Row{"fault: start over unfinished installs", s.Intents},
		Row{"fault: record lost in a database", s.Rots[rotLost]},
		Row{"fault: record of the past", s.Rots[rotOld]},
		Row{"fault: record with another content", s.Rots[rotContent]},
		Row{"fault: record with another clock", s.Rots[rotClock]},
		Row{"rule 1: versions that a vector came to cover", s.Rules[1]},
		Row{"rule 3: versions met again and equal", s.Rules[3]},
		Row{"rules 4 and 9: questions by UID", s.Asked},
		Row{"rule 4: records that a slow sync found to differ", s.Differed},
		Row{"rule 4: slow syncs at rest, which found nothing", s.Compared},
		Row{"rule 3: vectors that left out retired originators", s.Retired},
		Row{"rule 5: a greater version that had not seen the other", s.Rules[5]},
		Row{"rule 6: updates made over another", s.Rules[6]},
		Row{"rule 6: clocks that run ahead", s.Clamped},
		Row{"rule 7: losers of a name replaced", s.Rules[7]},
		Row{"rule 8: heirs", s.Rules[8]},
		Row{"rule 10: contents that the winner had not seen", s.Rules[10]},
		Row{"rule 11: directories brought back", int(s.Verdicts[repl.VerdictRevived])},
		Row{"rule 12: saves by replace", s.Saves},
		Row{"rule 13: changes undone, provisional records dropped", int(s.Verdicts[repl.VerdictUndone] + s.Verdicts[repl.VerdictDropProvisional])},
		Row{"rule 14: power cuts, after which what was promised is there", s.Crashes},
		Row{"rule 15: changes of the tree under an intent", s.Rules[15]},
		Row{"rules 16 and 17: installs that met a changed tree", s.Redecided},
		Row{"rule 18: contents put together from an old one", s.Forms[1] + s.Forms[2] + s.Forms[3]},
		Row{"rule 20: listings broken off, mounts", s.Listings + s.Mounts},
		Row{"rule 22: moves", s.Moves},
		Row{"deleted objects that came back under their names", s.Reanimated},
		Row{"updates that came short, for the mtime alone", s.Short},
		Row{"second spellings of a name left alone", s.Seconds},
		Row{"rule 24: user acts inside a look", s.BesideLook},
		Row{"rule 25: tombstones collected", s.Collected},
		Row{"rule 25: members evicted", s.Evicted},
		Row{"rule 25: evicted members back in", s.Readmitted},
		Row{"rule 25: members that started anew", s.Anew},
		Row{"rule 25: diffs refused below the floor", s.Stale},
		Row{"partners that changed", s.Rewired},
		Row{"updates of authoritative restores", s.Fenced},
		Row{"trees given up for another member's", s.Replaced},
		Row{"rule 27: originators held", s.Rules[27]},
		Row{"rule 27: updates rejected", s.Rejected},
	)
}

// Sum is one line to add up over runs.
func (s *Counters) Sum() string {
	faults := s.Crashes + s.Kills + s.Stops + s.Cuts + s.Torn + s.Listings + s.Mounts
	return fmt.Sprintf("played: %d acts of users, %d steps of members, %d operations on disks, %d faults", s.UserOps, s.Steps, s.Yields, faults)
}

// Print is the table as text.
func (s *Counters) Print() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10d  users' acts\n%10d  steps of members\n%10d  operations on disks\n", s.UserOps, s.Steps, s.Yields)
	for _, r := range s.Table() {
		fmt.Fprintf(&b, "%10d  %s\n", r.Seen, r.What)
	}
	return b.String()
}
