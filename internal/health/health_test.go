package health

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"opendfs/internal/control/controlpb"
)

// Rates are those of the last seconds, and zero when it is quiet again.
func TestRates(t *testing.T) {
	var r Rates
	start := time.Unix(1000, 0)
	if got := r.Now(); got != (PerSecond{}) {
		t.Errorf("without a sample: %+v", got)
	}
	for s := range 61 {
		n := uint64(min(s, 20)) * 100 // 100 a second for 20 s, then nothing
		r.Add(start.Add(time.Duration(s)*time.Second), Totals{Captured: n, InBytes: n * 1000})
		if s == 20 {
			if got := r.Now(); got.Captured != 100 || got.InBytes != 100_000 || got.Installed != 0 {
				t.Errorf("after 20 s: %+v", got)
			}
		}
	}
	if got := r.Now(); got.Captured != 0 {
		t.Errorf("after a minute: %+v", got)
	}
	r.Add(start.Add(62*time.Second), Totals{}) // the counters began anew
	if got := r.Now(); got.Captured != 0 || got.InBytes != 0 {
		t.Errorf("after a reset of the counters: %+v", got)
	}
}

func scrape(t *testing.T, s *controlpb.StatusReply, err error) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(func(context.Context) (*controlpb.StatusReply, error) { return s, err }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d\n%s", w.Code, w.Body)
	}
	return w.Body.String()
}

// Metrics say what the status says.
func TestMetrics(t *testing.T) {
	got := scrape(t, &controlpb.StatusReply{
		Server: "hub", Domain: "corp", Version: "1", Generation: 4,
		Folders: []*controlpb.Folder{{
			Name: "g/f", State: "normal", Files: 12, Installed: 5, LastChange: "1970-01-01T00:01:00.5Z",
			Links: []*controlpb.Link{
				{Server: "branch", Direction: "out", Known: true, Backlog: &controlpb.Backlog{Updates: 3, Bytes: 99}},
				{Server: "branch", Direction: "in", Known: true, Backlog: &controlpb.Backlog{Updates: 2, Bytes: -1}},
				{Server: "third", Direction: "out", Backlog: &controlpb.Backlog{}},
			},
		}},
		Partners: []*controlpb.Partner{{Server: "branch", Connected: true}},
		Findings: []*controlpb.Finding{{Code: "disk-full", Severity: "error"}, {Code: "disk-full", Severity: "error"}},
		Database: &controlpb.Database{DiskBytes: 7},
	}, nil)
	for _, want := range []string{
		`dfs_up 1`, `dfs_info{domain="corp",server="hub",version="1"} 1`,
		`dfs_folder_state{folder="g/f",state="normal"} 1`, `dfs_folder_state{folder="g/f",state="stopped"} 0`,
		`dfs_folder_objects{folder="g/f",type="file"} 12`, `dfs_updates_installed_total{folder="g/f"} 5`,
		`dfs_folder_last_change_seconds{folder="g/f"} 60.5`,
		`dfs_backlog_updates{direction="out",folder="g/f",partner="branch"} 3`, `dfs_backlog_bytes{direction="out",folder="g/f",partner="branch"} 99`,
		`dfs_partner_connected{partner="branch"} 1`, `dfs_findings{code="disk-full",severity="error"} 2`, `dfs_database_bytes 7`, `go_goroutines`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not among the metrics", want)
		}
	}
	for _, not := range []string{`partner="third"`, `dfs_backlog_bytes{direction="in"`} {
		if strings.Contains(got, not) {
			t.Errorf("%s is among the metrics, though it is not known", not)
		}
	}
	if got := scrape(t, nil, errors.New("busy")); !strings.Contains(got, "dfs_up 0") {
		t.Error("a member that does not answer is up")
	}
}
