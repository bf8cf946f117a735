package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/schedule"

	"github.com/spf13/cobra"
)

// scheduleView is a schedule as --json shows it.
type scheduleView struct {
	Group      string `json:"group"`
	Connection string `json:"connection"` // FROM->TO; empty: the group's own
	Schedule   string `json:"schedule"`
	UTC        bool   `json:"utc"`
}

func scheduleCommand(o *options) *cobra.Command {
	pair := func(d *directory.Domain, args []string) []string {
		if len(args) == 0 {
			return groupNames(d)
		}
		if g := d.GroupByName(args[0]); g != nil && len(args) == 1 {
			return connectionNames(d, g)
		}
		return nil
	}
	set := editor{use: "set GROUP [FROM->TO] SCHEDULE", short: "say when a group or one connection replicates, and how fast", long: scheduleHelp,
		example: "  dfs schedule set projects \"mon-fri 08:00-18:00 512kbps; sat,sun full; else closed\"\n  dfs schedule set projects 'hub->branch' \"utc; 22:00-04:00 8mbps\"\n  dfs schedule set projects full",
		args:    wants(2, 3, "GROUP, perhaps FROM->TO, and a schedule"), complete: pair, change: setSchedule}
	create := set
	create.use, create.short = "create GROUP [FROM->TO] SCHEDULE", "the same as set"
	return noun(o, "schedule", "when groups and connections replicate, and how fast: set, list, show, remove",
		set, create,
		viewer{use: "list", short: "list the schedules", example: "  dfs schedule list", args: none, show: listSchedules},
		viewer{use: "show GROUP [FROM->TO]", short: "draw the week", example: "  dfs schedule show projects 'hub->branch'", args: wants(1, 2, "GROUP and perhaps FROM->TO"), complete: pair, show: showSchedule},
		editor{use: "remove GROUP [FROM->TO]", short: "always open again, or as the group is", example: "  dfs schedule remove projects 'hub->branch'",
			args: wants(1, 2, "GROUP and perhaps FROM->TO"), complete: pair, change: removeSchedule})
}

const scheduleHelp = `
A schedule is one argument of clauses with ';' between them:

  [DAYS] [HOURS] RATE   DAYS: mon, mon-fri, sat,sun, daily    HOURS: 08:00-18:00,20:00-22:00
  else RATE             every quarter hour that no clause names; closed without it
  utc                   times are UTC; without it, the local time of the receiving server

RATE is closed, full, or a number with kbps, mbps, gbps. The first clause that fits
counts. Without FROM->TO it is the schedule of the group's connections that have none
of their own.`

func setSchedule(_ *cobra.Command, d *directory.Domain, args []string) error {
	g, err := findGroup(d, args[0])
	if err != nil {
		return err
	}
	s, err := schedule.Parse(args[len(args)-1])
	if err != nil {
		return usageError("%v", err)
	}
	if len(args) == 2 {
		g.Schedule = s
		return nil
	}
	from, to, err := splitConnection(d, args[1])
	if err != nil {
		return err
	}
	i := slices.IndexFunc(g.Exceptions, func(e directory.Exception) bool { return e.From == from && e.To == to })
	if i < 0 {
		g.Exceptions = append(g.Exceptions, directory.Exception{From: from, To: to, Schedule: s})
	} else {
		g.Exceptions[i].Schedule = s
	}
	return nil
}

func removeSchedule(_ *cobra.Command, d *directory.Domain, args []string) error {
	g, err := findGroup(d, args[0])
	if err != nil {
		return err
	}
	if len(args) == 1 {
		g.Schedule = nil
		return nil
	}
	i := slices.IndexFunc(g.Exceptions, func(e directory.Exception) bool { return e.From+"->"+e.To == args[1] })
	if i < 0 {
		return unknown("schedule", args[0]+" "+args[1], nil)
	}
	g.Exceptions = slices.Delete(g.Exceptions, i, i+1)
	return nil
}

func listSchedules(d *directory.Domain, _ []string) (view, error) {
	list := []scheduleView{}
	v := view{header: []string{"GROUP", "CONNECTION", "SCHEDULE"}}
	add := func(group, link string, s *schedule.Schedule) {
		list = append(list, scheduleView{group, link, s.String(), s.UTC()})
		if link == "" {
			link = "all others"
		}
		v.rows = append(v.rows, []string{group, link, s.String()})
	}
	for _, g := range d.Groups {
		for _, e := range g.Exceptions {
			add(g.Name, e.From+"->"+e.To, e.Schedule)
		}
		add(g.Name, "", g.Schedule)
	}
	v.value = list
	return v, nil
}

func showSchedule(d *directory.Domain, args []string) (view, error) {
	g, err := findGroup(d, args[0])
	if err != nil {
		return view{}, err
	}
	sv, s := scheduleView{Group: g.Name}, g.Schedule
	if len(args) == 2 {
		from, to, err := splitConnection(d, args[1])
		if err != nil {
			return view{}, err
		}
		sv.Connection, s = args[1], g.ScheduleOf(from, to)
	}
	sv.Schedule, sv.UTC = s.String(), s.UTC()
	return view{value: sv, below: drawWeek(s)}, nil
}

// shades are the marks of rates in a drawing, from the slowest; closed is a point and
// full a block.
var shades = []rune("123456789abcdefghijklmnopqrstuvwxyz")

// drawWeek draws a schedule: a line a day, a mark for each quarter hour.
func drawWeek(s *schedule.Schedule) string {
	var rates []schedule.Rate
	for d := range time.Saturday + 1 {
		for q := range schedule.Quarters {
			if r := s.Slot(d, q); r != schedule.Closed && r != schedule.Full {
				rates = append(rates, r)
			}
		}
	}
	slices.Sort(rates)
	rates = slices.Compact(rates)
	mark := func(r schedule.Rate) rune {
		switch i, _ := slices.BinarySearch(rates, r); {
		case r == schedule.Closed:
			return '·'
		case r == schedule.Full:
			return '█'
		case i >= len(shades):
			return '?'
		default:
			return shades[i]
		}
	}
	var b strings.Builder
	b.WriteString(s.String() + "\n\n     ")
	for h := 0; h < 24; h += 3 {
		fmt.Fprintf(&b, "%02d:00       ", h)
	}
	b.WriteString("\n")
	for i := range 7 {
		d := time.Weekday((i + 1) % 7) // from Monday on
		b.WriteString(d.String()[:3] + "  ")
		for q := range schedule.Quarters {
			b.WriteRune(mark(s.Slot(d, q)))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n· closed  █ full")
	for i, r := range rates[:min(len(rates), len(shades))] {
		fmt.Fprintf(&b, "  %c %v", shades[i], r)
	}
	if s.UTC() {
		b.WriteString("\nTimes are UTC.\n")
	} else {
		b.WriteString("\nTimes are those of the server that receives.\n")
	}
	return b.String()
}
