package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// figure is one line of the table that a benchmark run ends with.
type figure struct {
	Row  string  `json:"row"`
	What string  `json:"what"`
	Unit string  `json:"unit"`
	Ours float64 `json:"ours"`
	// Runs are the single values that Ours is the median of.
	Runs []float64 `json:"runs,omitempty"`
	// Peer is the same work by Beside: rsync, Syncthing, Unison, or a calibration. 0 without one.
	Beside string  `json:"beside,omitempty"`
	Peer   float64 `json:"peer,omitempty"`
	// Bar is what is asked for, in words; Held whether it is reached. A figure without a bar is for the eye.
	Bar  string `json:"bar,omitempty"`
	Held *bool  `json:"held,omitempty"`
}

// results collects the figures of a run.
type results struct {
	mu      sync.Mutex
	figures []figure
}

var figures results

// add notes a figure and shows it at once.
func (r *results) add(t testing.TB, f figure) {
	t.Helper()
	r.mu.Lock()
	r.figures = append(r.figures, f)
	r.mu.Unlock()
	t.Log(strings.Join(f.columns(), "  "))
}

// bar says what is asked for and whether it holds.
func (f figure) bar(text string, held bool) figure {
	f.Bar, f.Held = text, &held
	return f
}

// beside sets the peer's value.
func (f figure) beside(who string, value float64) figure {
	f.Beside, f.Peer = who, value
	return f
}

func (f figure) columns() []string {
	peer, ratio, verdict := "", "", ""
	if f.Beside != "" {
		peer = f.Beside + " " + number(f.Peer)
		if f.Peer != 0 {
			ratio = fmt.Sprintf("%.2f x", f.Ours/f.Peer)
		}
	}
	if f.Held != nil {
		verdict = map[bool]string{true: "held", false: "MISSED"}[*f.Held]
	}
	return []string{f.Row, f.What, number(f.Ours) + " " + f.Unit, peer, ratio, f.Bar, verdict}
}

// number prints three or four places that count.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// finish prints the table and writes the file that DFS_BENCH_OUT names.
func (r *results) finish() error {
	if len(r.figures) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nrow\twhat\tours\tbeside\tratio\tbar\t")
	for _, f := range r.figures {
		fmt.Fprintln(w, strings.Join(f.columns(), "\t"))
	}
	w.Flush()
	path := os.Getenv("DFS_BENCH_OUT")
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r.figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// benchmark skips what was not asked for: DFS_BENCH=1, and BENCH empty or naming the row (several with commas).
func benchmark(t testing.TB, rows ...string) {
	t.Helper()
	if !benching() {
		t.Skip("SKIPPED: a benchmark; run `make bench`")
	}
	asked := os.Getenv("BENCH")
	if asked == "" {
		return
	}
	for _, row := range rows {
		if slices.Contains(strings.Split(asked, ","), row) {
			return
		}
	}
	t.Skipf("SKIPPED: BENCH asks for %s", asked)
}

// heavy skips a row that takes minutes unless BENCH names it.
func heavy(t testing.TB, rows ...string) {
	t.Helper()
	if benching() && os.Getenv("BENCH") == "" {
		t.Skipf("SKIPPED: takes minutes; make bench BENCH=%s", rows[0])
	}
	benchmark(t, rows...)
}

// allPeers reports whether Syncthing and Unison are measured too.
func allPeers() bool { return os.Getenv("PEERS") == "all" }

// benchRuns is how often a row is measured; its figure is the median.
const benchRuns = 3

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// percentile of durations, in milliseconds.
func percentile(values []time.Duration, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	at := min(int(p/100*float64(len(s))), len(s)-1)
	return float64(s[at].Microseconds()) / 1000
}

// timed is how long do takes, in seconds.
func timed(do func()) float64 {
	began := time.Now()
	do()
	return time.Since(began).Seconds()
}
