package directory

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"opendfs/internal/schedule"
)

const scheduled = `version: 1
domain: corp
servers:
  hub:    {address: "hub:7440", max-rate: 100mbps}   # the line is thin
  branch: {address: "branch:7440", max-rate: full}
groups:
  projects:
    topology: full-mesh
    schedule: "mon-fri 08:00-18:00 512kbps; else full"   # office hours
    connection-schedules:
      "hub->branch": "utc; 22:00-04:00 8mbps"
    folders:
      docs:
        members:
          hub:    {path: /srv/docs, primary: true}
          branch: {path: /srv/docs}
`

// Schedules are read, and a connection's own stands for the group's.
func TestSchedules(t *testing.T) {
	d := mustRead(t, scheduled).Domain
	if got := d.ServerByName("hub").MaxRate; got != 100_000_000 || d.ServerByName("branch").MaxRate != 0 {
		t.Errorf("max-rate %v and %v", got, d.ServerByName("branch").MaxRate)
	}
	g := d.GroupByName("projects")
	noon := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC) // a Monday
	for link, want := range map[[2]string]schedule.Rate{{"hub", "branch"}: schedule.Closed, {"branch", "hub"}: 512_000} {
		if got, _ := g.ScheduleOf(link[0], link[1]).At(noon, time.UTC); got != want {
			t.Errorf("%v at noon: %v, want %v", link, got, want)
		}
	}
}

// What is wrong with a schedule is said with its place; what is unwise is a warning.
func TestScheduleProblems(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"512kbps; else full", "512; else full", `9:15: schedule clause "mon-fri 08:00-18:00 512": rate "512"`},
		{"hub->branch", "hub>branch", `11:7: connection "hub>branch" is not of the form FROM->TO`},
		{"hub->branch", "hub->brunch", `11:7: connection "hub->brunch" names an unknown server "brunch"; add it under servers or correct the name (did you mean "branch"?)`},
		{"100mbps", "closed", `4:43: max-rate is "closed"`},
		{"100mbps", "fast", `4:43: rate "fast"`},
	} {
		_, err := Parse([]byte(strings.Replace(scheduled, c.old, c.new, 1)), "domain.yaml")
		if !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
	text := strings.Replace(scheduled, "mon-fri 08:00-18:00 512kbps; else full", "closed", 1)
	text = strings.Replace(text, "          branch: {path: /srv/docs}\n", "", 1)
	warned := mustRead(t, text).Warnings.Error()
	for _, want := range []string{"9:15: the schedule is closed at all times", `11:7: the schedule of "hub->branch" is of no connection of group "projects"`} {
		if !strings.Contains(warned, want) {
			t.Errorf("warnings %s, want %s", warned, want)
		}
	}
}

// Schedules are changed in their place, with the comments beside them, and each
// change is a line.
func TestSchedulesChangeInPlace(t *testing.T) {
	doc := mustRead(t, scheduled)
	d := doc.Domain.Clone()
	s, err := schedule.Parse("closed; sat full")
	if err != nil {
		t.Fatal(err)
	}
	g := d.GroupByName("projects")
	g.Schedule, g.Exceptions = s, append(g.Exceptions, Exception{"branch", "hub", schedule.Uniform(64_000)})
	d.ServerByName("hub").MaxRate = 0
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		`{address: "hub:7440", max-rate: 100mbps}`, `{address: "hub:7440"}`,
		`"mon-fri 08:00-18:00 512kbps; else full"`, `"daily closed"`,
		"      \"hub->branch\"", "      \"branch->hub\": \"daily 64kbps\"\n      \"hub->branch\"",
	).Replace(scheduled)
	if got := string(next.Text()); got != want {
		t.Errorf("the text is\n%s\nwant\n%s", got, want)
	}
	lines := diffLines(doc.Domain, d)
	for _, want := range []string{
		"server hub: max-rate 100mbps -> none", "group projects: schedule mon-fri 08:00-18:00 512kbps; else full -> daily closed",
		"connection projects branch->hub: schedule the group's -> daily 64kbps",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("changes\n%s\nwant %s", lines, want)
		}
	}
	if all := Diff(nil, d); !strings.Contains(fmt.Sprint(all), "schedule daily closed") {
		t.Errorf("a new group's schedule is not told: %v", all)
	}
}

// A way back that is disabled is none.
func TestADisabledWayBackIsNone(t *testing.T) {
	text := strings.Replace(scheduled, "    topology: full-mesh\n", "    topology: {connections: [\"hub->branch\", {from: branch, to: hub, enabled: false}]}\n", 1)
	if warned := mustRead(t, text).Warnings.Error(); !strings.Contains(warned, `connection "hub->branch" has no way back`) {
		t.Errorf("warnings: %s", warned)
	}
}
