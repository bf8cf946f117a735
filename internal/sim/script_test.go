package sim

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/filter"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/version"
)

var rewrite = flag.Bool("rewrite", false, "write what the conversation scripts come to into testdata")

// TestScripts plays the conversations in testdata: what the users of a few
// members do, and what comes of it. A script names the sentence of
// docs/conflicts.md that it shows ("shows: …"); each sentence set in bold there
// has a script. Lines that begin with two blanks are what the command above
// them prints; -rewrite writes them anew.
//
//	members NAME NAME …        who takes part; the first one is the primary
//	chain                      each has a connection with its neighbours only
//	read-only NAME             its users may change nothing
//	narrow NAME N              its disk holds names of at most N bytes
//	morph, fold                directory-conflict: morph; case: insensitive
//	breaker                    it trips when a third of more than two files change
//	start [NAME …]             the members begin; what users did before was there before
//	apart [NAME NAME]          no connection, or none between these two
//	together                   all connections
//	link NAME NAME             this connection
//	deaf NAME NAME             the first hears nothing of the second
//	filter [PATTERN …]         the folder leaves these files out beside those it always does
//	wait DURATION              time goes by
//	life DAYS                  how long deletions are remembered (before start)
//	days N                     so many days go by, twice a day members tell each other of themselves
//	domain                     everybody who can be reached hears what the directory says of members
//
//	NAME writes PATH TEXT      NAME copies-old PATH TEXT   (with an mtime of last year)
//	NAME saves PATH TEXT       NAME renames PATH TO        NAME swaps PATH TO
//	NAME removes PATH          NAME makes PATH             NAME links TO PATH
//	NAME hard-links PATH TO    NAME chmods PATH MODE       NAME pipes PATH
//	NAME touches PATH
//	NAME opens PATH            NAME types TEXT             NAME closes
//	NAME is killed             NAME loses power            NAME is stopped
//	NAME begins                again, after one of those
//	NAME is backed-up          its database and its tree, as they are now
//	NAME gets-back database    of the backup, or tree, or all; it does not run
//	NAME gets-database-of NAME as it was backed up
//	NAME is taken-anew         as docs/operations.md says of a tree restored whole
//	NAME runs-ahead DURATION   its clock, from the start on
//	NAME restores PATH         what it has there wins
//	NAME follows NAME          it takes over the other's tree
//	NAME releases              NAME rejects                what it holds
//
//	tree [NAME]                names, types, contents; once if all have the same
//	preserved                  what the conflict stores hold
//	records                    what is on record, by the last author
//	tombstones                 how many deletions each remembers
//	evicted                    whom the directory has put out
//	made                       of how many objects each has made a version since it was asked last
//	travelled                  how many contents have travelled since it was asked last
//	held                       what members hold, and what was decided and is still to come
//	findings                   what the members have to say
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	law, err := os.ReadFile("../../docs/conflicts.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := &script{t: t, names: make(map[string]int), said: make(map[string]bool)}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := s.play(string(text))
			for sentence := range s.said {
				shown[sentence] = true
				if !bytes.Contains(law, []byte(sentence)) {
					t.Errorf("docs/conflicts.md does not say %q", sentence)
				}
			}
			if len(s.said) == 0 {
				t.Error("the script does not tell what it shows")
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("it comes to\n%s", got)
			}
		})
	}
	for _, sentence := range bold(string(law)) {
		if !shown[sentence] {
			t.Errorf("no script shows %q", sentence)
		}
	}
}

// bold lists the sentences that begin a paragraph in bold.
func bold(law string) []string {
	var out []string
	for line := range strings.Lines(law) {
		if rest, ok := strings.CutPrefix(line, "**"); ok {
			sentence, _, _ := strings.Cut(rest, "**")
			out = append(out, strings.TrimSuffix(sentence, "."))
		}
	}
	return out
}

// script is one conversation.
type script struct {
	t       *testing.T
	c       *Cluster
	names   map[string]int
	members []string
	begun   bool
	said    map[string]bool // what it shows
	made    map[repl.UID]repl.Update
	forms   int
}

// play carries out a script and returns it with what its commands print.
func (s *script) play(text string) string {
	var out strings.Builder
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		printed, err := s.command(line)
		if err != nil {
			s.t.Fatalf("line %d: %s: %v\n%s\n%s", n+1, line, err, s.c.Trace(), s.c.Picture())
		}
		for _, p := range printed {
			out.WriteString("  " + p + "\n")
		}
	}
	if err := s.end(); err != nil {
		s.t.Errorf("at the end: %v\n%s", err, s.c.Picture())
	}
	return out.String()
}

// end applies the checkers of a cluster at rest, if it is at rest.
func (s *script) end() error {
	for _, m := range s.c.members {
		if m.folder == nil || len(m.open) > 0 {
			return nil
		}
	}
	if len(s.c.cut)+len(s.c.deaf) > 0 {
		return nil
	}
	if err := s.c.settle(); err != nil {
		return err
	}
	return s.c.check()
}

// words splits a line at blanks; what stands in quotes is one word.
func words(line string) ([]string, error) {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			out, line = append(out, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		out, line = append(out, word), line[len(quoted):]
	}
	return out, nil
}

func (s *script) command(line string) ([]string, error) {
	if sentence, ok := strings.CutPrefix(line, "shows: "); ok {
		s.said[sentence] = true
		return nil, nil
	}
	w, err := words(line)
	if err != nil {
		return nil, err
	}
	if n, ok := s.names[w[0]]; ok && len(w) > 1 {
		return nil, errors.Join(s.user(s.c.members[n], w[1], w[2:]), s.work())
	}
	switch w[0] {
	case "members":
		s.members = w[1:]
		for i, name := range s.members {
			s.names[name] = i
		}
		return nil, s.gather(Mesh)
	case "chain":
		return nil, s.gather(Chain)
	case "read-only":
		s.c.members[s.names[w[1]]].cfg.ReadOnly = true
		return nil, nil
	case "narrow":
		n, err := strconv.Atoi(w[2])
		s.c.members[s.names[w[1]]].narrow(n)
		return nil, err
	case "morph":
		for _, m := range s.c.members {
			m.cfg.Morph = true
		}
		return nil, nil
	case "breaker":
		for _, m := range s.c.members {
			m.cfg.Breaker = engine.Breaker{Files: 2, Percent: 33, Within: 10 * time.Minute}
		}
		return nil, nil
	case "fold":
		for _, m := range s.c.members {
			m.cfg.Insensitive = true
		}
		return nil, nil
	case "filter":
		return nil, errors.Join(s.filter(w[1:]), s.work())
	case "start":
		return nil, s.start(w[1:])
	case "apart", "together", "deaf", "link":
		return nil, errors.Join(s.connections(w[0], w[1:]), s.work())
	case "life":
		n, err := strconv.Atoi(w[1])
		s.c.live(time.Duration(n) * 24 * time.Hour)
		return nil, err
	case "days":
		n, err := strconv.Atoi(w[1])
		for range 2 * n {
			s.c.pass(12 * time.Hour)
			if werr := s.work(); werr != nil {
				return nil, werr
			}
		}
		return nil, err
	case "domain":
		return nil, errors.Join(s.c.inform(), s.work())
	case "wait":
		d, err := time.ParseDuration(w[1])
		s.c.pass(d)
		return nil, errors.Join(err, s.work())
	}
	return s.print(w)
}

// filter changes what every member leaves out.
func (s *script) filter(more []string) error {
	rules := filter.Defaults()
	rules.Files = append(rules.Files, more...)
	set, err := filter.New(rules)
	if err != nil {
		return err
	}
	for _, m := range s.c.members {
		if !s.begun {
			m.cfg.Filter = set
			continue
		}
		if err := m.refilter(set); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) gather(shape Topology) error {
	s.c = New(1, len(s.members), shape)
	s.c.still, s.c.tail = true, ""
	s.made = make(map[repl.UID]repl.Update)
	return nil
}

// start brings members up; what lies on their disks was there before.
func (s *script) start(names []string) error {
	if len(names) == 0 {
		names = s.members
	}
	s.begun = true
	for _, name := range names {
		m := s.c.members[s.names[name]]
		m.disk.SyncAll()
		if err := m.Start(); err != nil {
			return err
		}
	}
	if err := s.work(); err != nil {
		return err
	}
	s.count()
	return nil
}

func (s *script) connections(what string, names []string) error {
	switch {
	case what == "together":
		clear(s.c.cut)
		clear(s.c.deaf)
	case what == "link":
		i, j := s.names[names[0]], s.names[names[1]]
		delete(s.c.cut, [2]int{min(i, j), max(i, j)})
	case what == "deaf":
		s.c.deaf[[2]int{s.names[names[0]], s.names[names[1]]}] = true
	default:
		for i := range s.members {
			for j := range i {
				if len(names) == 0 || slices.Contains(names, s.members[i]) && slices.Contains(names, s.members[j]) {
					s.c.cut[[2]int{j, i}] = true
				}
			}
		}
	}
	s.c.connect()
	return nil
}

// work lets everybody do all that can be done now.
func (s *script) work() error {
	if !s.begun {
		return nil
	}
	for quiet := 0; quiet < 3; {
		busy := false
		for _, m := range s.c.members {
			for n := 0; m.folder != nil && (m.deliver() || m.runSome()); n++ {
				if n > maxBusy {
					return fmt.Errorf("%s never stands still", s.members[m.index])
				}
			}
		}
		for _, m := range s.c.members {
			busy = busy || len(m.events) > 0
		}
		if err := s.c.stopped(); err != nil {
			return err
		}
		if quiet++; busy {
			quiet = 0
		}
		s.c.pass(2 * time.Second)
	}
	return nil
}

// user lets a user do something, or somebody something to the member.
func (s *script) user(m *Member, verb string, w []string) error {
	u := m.disk.User()
	arg := func(i int) string {
		if i >= len(w) {
			s.t.Fatalf("%s wants more words than %q", verb, w)
		}
		return w[i]
	}
	switch verb {
	case "writes":
		return u.WriteFile(arg(0), []byte(arg(1)))
	case "copies-old":
		return errors.Join(u.WriteFile(arg(0), []byte(arg(1))), u.Touch(arg(0), s.c.now-repl.Time(365*24*time.Hour)))
	case "touches":
		return u.Touch(arg(0), s.c.now)
	case "saves":
		tmp := filepath.Join(filepath.Dir(arg(0)), ".saving")
		return errors.Join(u.WriteFile(tmp, []byte(arg(1))), u.Rename(tmp, arg(0)))
	case "renames":
		return u.Rename(arg(0), arg(1))
	case "swaps":
		return errors.Join(u.Rename(arg(0), ".swapping"), u.Rename(arg(1), arg(0)), u.Rename(".swapping", arg(1)))
	case "removes":
		return u.RemoveAll(arg(0))
	case "makes":
		return u.Mkdir(arg(0))
	case "links":
		return u.Symlink(arg(0), arg(1))
	case "hard-links":
		return u.Link(arg(0), arg(1))
	case "pipes":
		return u.Pipe(arg(0))
	case "chmods":
		mode, err := strconv.ParseUint(arg(1), 8, 32)
		return errors.Join(err, u.Chmod(arg(0), uint32(mode)))
	case "opens":
		return m.userOpen(arg(0))
	case "types":
		_, err := m.open[0].w.Write([]byte(arg(0)))
		return err
	case "closes":
		return m.userCloseOne()
	case "is":
		return s.becomes(m, arg(0))
	case "gets-back":
		how := map[string]int{"database": rollStore, "tree": rollTree, "all": rollBoth}[arg(0)]
		return m.roll(&m.images[0], how)
	case "gets-database-of":
		return m.roll(&s.c.members[s.names[arg(0)]].images[0], rollCopy)
	case "loses":
		m.guard(func() { m.disk.Kill(); panic(crashed{m}) })
		return nil
	case "begins":
		err := m.Start()
		var marker *engine.MarkerError
		if errors.As(err, &marker) { // as the keeper of cmd/dfs does
			m.Raise(marker.Code, m.cfg.Name, marker.Detail)
			return nil
		}
		return err
	case "runs-ahead":
		d, err := time.ParseDuration(arg(0))
		m.fast = d
		return err
	case "restores":
		m.events = append(m.events, engine.Authorize{Path: arg(0)})
		return nil
	case "follows":
		return m.takeOver(s.c.members[s.names[arg(0)]])
	case "releases", "rejects":
		m.decideOn(verb == "rejects")
		return nil
	}
	return errors.New("no such verb")
}

// becomes is what is done to a member.
func (s *script) becomes(m *Member, what string) error {
	switch what {
	case "killed":
		m.kill()
		return nil
	case "stopped":
		return m.stop()
	case "backed-up":
		m.takeImage()
		return nil
	case "taken-anew":
		s.c.restored = true
		return m.Start()
	}
	return errors.New("no such state")
}

// print answers a question.
func (s *script) print(w []string) ([]string, error) {
	switch w[0] {
	case "tree":
		return s.tree(w[1:]), nil
	case "preserved":
		return s.preserved()
	case "records":
		return s.records(), nil
	case "tombstones":
		var out []string
		for _, m := range s.c.members {
			if m.folder != nil {
				out = append(out, fmt.Sprintf("%s: %d", s.members[m.index], m.env.Store.Counts().Tombstones))
			}
		}
		return out, nil
	case "evicted":
		var out []string
		for i, m := range s.c.members {
			if !s.c.out[m.id].IsZero() {
				out = append(out, s.members[i])
			}
		}
		return orNothing(out), nil
	case "made":
		return s.count(), nil
	case "travelled":
		return []string{s.contents()}, nil
	case "held":
		return s.heldOriginators(), nil
	case "findings":
		var out []string
		for _, m := range s.c.members {
			for _, f := range slices.Sorted(maps.Keys(m.found)) {
				for o, name := range s.authors() {
					f = strings.ReplaceAll(f, o.String(), name)
				}
				out = append(out, s.members[m.index]+": "+f)
			}
		}
		return orNothing(out), nil
	}
	return nil, errors.New("no such command")
}

// heldOriginators lists what the breakers of the members hold.
func (s *script) heldOriginators() []string {
	var out []string
	author := s.authors()
	for _, m := range s.c.members {
		if m.folder == nil {
			continue
		}
		for _, h := range m.folder.Status().Holds {
			out = append(out, fmt.Sprintf("%s: %s %v, %d of %d files replaced, %d deleted", s.members[m.index], author[h.Originator], h.Decision, h.Replaced, h.Live, h.Deleted))
		}
	}
	return orNothing(out)
}

// authors names the originators of the running members.
func (s *script) authors() map[version.Originator]string {
	author := make(map[version.Originator]string)
	for _, m := range s.c.members {
		if m.folder != nil {
			author[m.env.Store.State().Originator] = s.members[m.index]
		}
	}
	return author
}

func orNothing(lines []string) []string {
	if len(lines) == 0 {
		return []string{"nothing"}
	}
	return lines
}

// tree is what lies on the disks of the members.
func (s *script) tree(names []string) []string {
	if len(names) > 0 {
		return s.treeOf(s.names[names[0]])
	}
	first := s.treeOf(0)
	for i := range s.members[1:] {
		if !slices.Equal(first, s.treeOf(i+1)) {
			var out []string
			for i, name := range s.members {
				for _, line := range s.treeOf(i) {
					out = append(out, name+": "+line)
				}
			}
			return out
		}
	}
	return first
}

func (s *script) treeOf(n int) []string {
	var out []string
	for _, o := range s.c.members[n].disk.Tree(false) {
		line := o.Path
		switch o.Type {
		case repl.Directory:
			line += "/"
		case repl.File:
			line += fmt.Sprintf(" %q", o.Content)
		case repl.Symlink:
			line += " -> " + o.Content
		default:
			line += " (a pipe)"
		}
		if usual := map[repl.Type]uint32{repl.File: 0o600, repl.Directory: 0o755}[o.Type]; usual != 0 && o.Mode != usual {
			line += fmt.Sprintf(" %o", o.Mode)
		}
		out = append(out, line)
	}
	return orNothing(out)
}

// preserved lists what the conflict stores hold.
func (s *script) preserved() ([]string, error) {
	var out []string
	for _, m := range s.c.members {
		if m.env == nil || m.folder == nil {
			continue
		}
		nodes := make(map[string]string)
		for _, n := range m.disk.Tree(true) {
			nodes[n.Path] = n.Content
		}
		err := m.env.Keep.List(func(e preserve.Entry) error {
			line := fmt.Sprintf("%s: %s, %v", s.members[m.index], e.Path, e.Why)
			if e.Type == repl.File {
				line += fmt.Sprintf(", %q", nodes[".dfsr/"+string(e.Area)+"/"+e.Name])
			}
			out = append(out, line)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return orNothing(out), nil
}

// records lists what the first running member has on record.
func (s *script) records() []string {
	var out []string
	author := s.authors()
	var at *Member
	for _, m := range s.c.members {
		if m.folder != nil && at == nil {
			at = m
		}
	}
	name := func(uid repl.UID) string {
		rec, _, err := at.env.Store.Get(uid)
		if err != nil || rec.Parent.IsZero() {
			return "the root"
		}
		return rec.Name
	}
	for _, u := range allUpdates(at.env.Store) {
		if u.Parent.IsZero() {
			continue
		}
		line := fmt.Sprintf("%s in %s, a %v of %s", u.Name, name(u.Parent), u.Type, author[u.UID.Originator])
		switch {
		case !u.Heir.IsZero():
			line += ", merged into that of " + author[u.Heir.Originator]
		case u.NameConflict:
			line += ", lost its name"
		case !u.Present:
			line += ", deleted"
		}
		if by := author[u.GVSN.Originator]; by != author[u.UID.Originator] || !u.Present {
			line += ", says " + by
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return orNothing(out)
}

// count tells of how many objects each member has made a version since it was
// asked last. That a directory's mtime follows what is in it is left out.
func (s *script) count() []string {
	var out []string
	for _, m := range s.c.members {
		if m.folder == nil {
			continue
		}
		n, own := 0, m.env.Store.State().Originator
		for _, u := range allUpdates(m.env.Store) {
			was := s.made[u.UID]
			if u.Type == repl.Directory {
				was.Mtime = u.Mtime
			}
			was.GVSN, was.Clock, was.History = u.GVSN, u.Clock, u.History
			if u.GVSN.Originator == own && !sameUpdate(&was, &u) {
				n++
			}
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("%s %d", s.members[m.index], n))
		}
	}
	for _, m := range s.c.members {
		if m.folder != nil {
			for _, u := range allUpdates(m.env.Store) {
				if was, ok := s.made[u.UID]; !ok || repl.Compare(&was, &u) < 0 {
					s.made[u.UID] = u
				}
			}
		}
	}
	s.contents()
	return orNothing(out)
}

// contents tells how many contents have travelled since it was asked last.
func (s *script) contents() string {
	sum := 0
	for _, n := range s.c.Count.Forms {
		sum += n
	}
	was := s.forms
	s.forms = sum
	return strconv.Itoa(sum - was)
}
