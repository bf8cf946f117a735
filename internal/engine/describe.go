package engine

import (
	"fmt"
	"strings"

	"opendfs/internal/repl"
)

// String lists the names that are looked at, for traces.
func (a *Look) String() string {
	var names []string
	for _, n := range a.Work.Names {
		text := n.Name
		if n.Wrote {
			text += "!"
		}
		names = append(names, text)
	}
	all := ""
	if a.Work.All {
		all = " all"
	}
	return fmt.Sprintf("look at %s%s [%s]", short(a.Work.Dir), all, strings.Join(names, " "))
}

// String names the records that are looked for.
func (a *LookGone) String() string {
	var uids []string
	for _, uid := range a.UIDs {
		uids = append(uids, short(uid))
	}
	return "look for " + strings.Join(uids, " ")
}

// String tells which changes a batch makes, for traces.
func (a *Install) String() string {
	lines := make([]string, 0, len(a.batch.changes)+1)
	lines = append(lines, fmt.Sprintf("install %d changes", len(a.batch.changes)))
	for i := range a.batch.changes {
		lines = append(lines, "    "+describe(a.batch.changes[i]))
	}
	return strings.Join(lines, "\n")
}

// String tells what was not carried out, for traces.
func (e installed) String() string {
	text := "installed"
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	for i := range e.outcomes {
		if err := e.outcomes[i].Err; err != nil {
			text += fmt.Sprintf("\n    %v of %s: %v", e.batch.changes[i].Update.GVSN, short(e.batch.changes[i].Update.UID), err)
		}
	}
	return text
}

// describe tells what a change does.
func describe(c *repl.Change) string {
	text := fmt.Sprintf("%s %v of %s", c.Verdict, c.Update.GVSN, short(c.Update.UID))
	if c.Object.UID != c.Update.UID && !c.Object.UID.IsZero() {
		text += " on " + short(c.Object.UID)
	}
	text += fmt.Sprintf(" %s -> %s keep %s", describePlace(c.From), describePlace(c.To), c.Keep)
	for _, part := range []struct {
		on   bool
		name string
	}{{c.Content, "content"}, {c.Meta, "meta"}, {c.Drop, "drop"}, {c.ViaPrivate, "parked"}, {c.Group != 0, fmt.Sprint("group ", c.Group)}} {
		if part.on {
			text += ", " + part.name
		}
	}
	return text
}

func describePlace(p repl.Place) string {
	if p.IsZero() {
		return "nowhere"
	}
	return short(p.Dir) + "/" + p.Name
}

// short is a UID that people can tell apart from a handful of others.
func short(uid repl.UID) string { return fmt.Sprintf("%x-v%d", uid.Originator[:2], uid.Version) }
