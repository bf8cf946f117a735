package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/finding"

	"golang.org/x/term"
)

// The rhythm and the size of the view.
const (
	demoLook    = 250 * time.Millisecond
	demoChanges = 8 // last changes shown
)

// demoView shows a demonstration: a block that is drawn anew on a terminal,
// plain lines elsewhere.
type demoView struct {
	d      *demo
	out    io.Writer
	screen bool
	drawn  int // lines of the block on the screen

	welcomed bool         // the initial sync is over
	changes  []demoChange // oldest first
	said     string       // the last plain line about the members
	known    map[string]bool
}

// demoChange is one update and where it has been seen.
type demoChange struct {
	line   *controlpb.UpdateLine
	maker  string
	others []string
}

func newDemoView(d *demo) *demoView {
	v := &demoView{d: d, out: d.out, known: make(map[string]bool)}
	if f, ok := d.out.(*os.File); ok {
		v.screen = term.IsTerminal(int(f.Fd()))
	}
	return v
}

// look asks both members.
func (v *demoView) look(ctx context.Context) ([]*controlpb.StatusReply, error) {
	var out []*controlpb.StatusReply
	for _, m := range v.d.members {
		s, err := m.client.Status(ctx)
		if err != nil {
			select {
			case <-m.ended:
				return nil, fmt.Errorf("member %s has ended: %s", m.name, lastLine(m.log))
			default:
			}
			return nil, fmt.Errorf("ask member %s: %w", m.name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// sync shows the initial sync until both are Normal and equal.
func (v *demoView) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoSync)
	defer cancel()
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for {
		s, err := v.look(ctx)
		if err != nil {
			return err
		}
		v.show(s)
		if inSync(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inSync reports whether both members have the folder, Normal, with one vector.
func inSync(s []*controlpb.StatusReply) bool {
	var first *controlpb.Folder
	for _, one := range s {
		if len(one.Folders) != 1 || one.Folders[0].State != "normal" {
			return false
		}
		if f := one.Folders[0]; first == nil {
			first = f
		} else if f.Vector != first.Vector {
			return false
		}
	}
	return true
}

// welcome says what can be done now.
func (v *demoView) welcome() {
	v.drawn, v.welcomed = 0, true
	hub, branch := v.d.members[0], v.d.members[1]
	fmt.Fprintf(v.out, `
The folder %s is the same on both members. Change files in either:

    %s
    %s

Ask either member from another terminal, for instance:

    dfs --state %s status
    dfs --state %s explain %s/README.txt

Ctrl-C stops both.

`, demoFolder, hub.folder, branch.folder, hub.state, branch.state, branch.folder)
}

// follow shows what happens until ctx ends.
func (v *demoView) follow(ctx context.Context) error {
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for {
		s, err := v.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		v.show(s)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// show draws the block, or says in plain lines what is new.
func (v *demoView) show(s []*controlpb.StatusReply) {
	fresh := v.take(s)
	if !v.welcomed { // the sample tree is not worth a line a file
		v.changes, fresh = nil, nil
	}
	if !v.screen {
		for _, c := range fresh {
			fmt.Fprintln(v.out, c.text())
		}
		if line := v.plain(s); line != v.said {
			v.said = line
			fmt.Fprintln(v.out, line)
		}
		return
	}
	var b strings.Builder
	for range v.drawn {
		b.WriteString("\x1b[A\x1b[2K")
	}
	lines := v.block(s)
	width := 80
	if f, ok := v.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			width = w
		}
	}
	for _, l := range lines {
		if r := []rune(l); len(r) >= width {
			l = string(r[:width-2]) + "…"
		}
		b.WriteString(l + "\n")
	}
	v.drawn = len(lines)
	fmt.Fprint(v.out, b.String())
}

// take gathers the members' last updates and returns those that are new.
func (v *demoView) take(s []*controlpb.StatusReply) []demoChange {
	var fresh []demoChange
	for i, one := range s {
		for _, f := range one.Folders {
			for _, line := range f.Recent {
				key := one.Server + " " + line.Gvsn
				if v.known[key] || line.Path == "." || f.State != "normal" {
					continue
				}
				v.known[key] = true
				other := s[1-i].Server
				at := slices.IndexFunc(v.changes, func(c demoChange) bool { return c.line.Gvsn == line.Gvsn })
				own := line.MadeBy == "this server"
				if own && at >= 0 { // it was seen on the other one first
					continue
				}
				if at < 0 {
					c := demoChange{line: line, maker: other}
					if own {
						c.maker = one.Server
					}
					v.changes = append(v.changes, c)
					at = len(v.changes) - 1
				}
				if !own {
					v.changes[at].others = append(v.changes[at].others, one.Server)
				}
				fresh = append(fresh, v.changes[at])
			}
		}
	}
	v.changes = v.changes[max(0, len(v.changes)-demoChanges):]
	return fresh
}

func (c *demoChange) text() string {
	what := c.line.Kind
	switch {
	case c.line.Deleted:
		what = "deleted " + what
	case c.line.Kind == "file":
		what += ", " + size(c.line.Size)
	}
	at := clockTime(c.line.Time)
	text := fmt.Sprintf("%s  %s  (%s)  by %s", at[len(at)-8:], c.line.Path, what, c.maker)
	if len(c.others) > 0 {
		text += ", also on " + strings.Join(c.others, ", ")
	}
	return text
}

// block is what the screen shows.
func (v *demoView) block(s []*controlpb.StatusReply) []string {
	const row = "%-7s %-13s %7s %7s %6s %13s  %s"
	lines := []string{fmt.Sprintf(row, "MEMBER", "STATE", "FILES", "SIZE", "IN", "OUT", "RATE")}
	for _, one := range s {
		if len(one.Folders) == 0 {
			lines = append(lines, fmt.Sprintf("%-7s %s", one.Server, "waits for the domain"))
		}
		for _, f := range one.Folders {
			lines = append(lines, fmt.Sprintf(row, one.Server, stateText(f), thousands(f.Files), size(f.Bytes),
				backlogText(f.In, f.State), backlogText(f.Out, f.State), rateText(f)))
			if f.EtaSeconds >= 1 {
				lines = append(lines, "        about "+seconds(f.EtaSeconds)+" left")
			}
		}
		for _, f := range one.Findings {
			// Without root inotify stands in, which is as it should be here.
			if f.Severity != "info" && f.Code != string(finding.JournalDegraded) {
				lines = append(lines, fmt.Sprintf("        %s %s: %s", f.Severity, f.Code, f.Text))
			}
		}
	}
	lines = append(lines, "")
	for _, c := range v.changes {
		lines = append(lines, c.text())
	}
	return lines
}

// plain is how both members stand, in a line.
func (v *demoView) plain(s []*controlpb.StatusReply) string {
	var parts []string
	for _, one := range s {
		text := one.Server + ": waits for the domain"
		if len(one.Folders) > 0 {
			f := one.Folders[0]
			text = fmt.Sprintf("%s: %s, %s files, %s, in %s, out %s", one.Server, stateText(f), thousands(f.Files), size(f.Bytes),
				backlogText(f.In, f.State), backlogText(f.Out, f.State))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " | ")
}
