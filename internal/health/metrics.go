package health

import (
	"context"
	"net/http"
	"time"

	"opendfs/internal/control/controlpb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapeTime bounds how long a scrape may ask the member.
const scrapeTime = 5 * time.Second

// Handler serves the metrics of a member, whose status says what they are.
func Handler(status func(context.Context) (*controlpb.StatusReply, error)) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{status})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector turns a status into metrics.
type collector struct {
	status func(context.Context) (*controlpb.StatusReply, error)
}

// States lists every state that a folder can be in, for the state metric.
var States = []string{"normal", "initial build", "initial sync", "recovery", "stopped", "starting", "waiting", "disabled"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("dfs_"+name, help, labels, nil)
}

var (
	up            = describe("up", "1 while the member answers.")
	info          = describe("info", "Who the member is; always 1.", "server", "domain", "version")
	generation    = describe("domain_generation", "Generation of the domain that the member goes by.")
	folderState   = describe("folder_state", "1 for the state that the folder is in, 0 for the others.", "folder", "state")
	folderObjects = describe("folder_objects", "Live objects by type.", "folder", "type")
	folderBytes   = describe("folder_bytes", "Bytes of the live files.", "folder")
	tombstones    = describe("folder_tombstones", "Remembered deletions.", "folder")
	uncaptured    = describe("folder_uncaptured", "Names and directories still to be looked at.", "folder")
	inFlight      = describe("folder_in_flight", "Updates being fetched or installed.", "folder")
	walking       = describe("folder_walking", "1 while the tree is compared with the database.", "folder")
	captured      = describe("updates_captured_total", "Updates made of local changes since the folder was opened.", "folder")
	installed     = describe("updates_installed_total", "Updates of others installed since the folder was opened.", "folder")
	contentIn     = describe("content_installed_bytes_total", "Bytes of content installed since the folder was opened.", "folder")
	contentOut    = describe("content_served_bytes_total", "Bytes of content sent to partners since start.", "folder")
	conflicts     = describe("losers_kept_total", "Objects put into the conflict store since the folder was opened.", "folder")
	open          = describe("folder_open_files", "Files that users have open for writing, and that are not at rest.", "folder")
	lastChange    = describe("folder_last_change_seconds", "When the folder last captured or installed something, Unix time.", "folder")
	backlogN      = describe("backlog_updates", "Updates that one side has and the other lacks.", "folder", "partner", "direction")
	backlogBytes  = describe("backlog_bytes", "Bytes of the files among them, where known.", "folder", "partner", "direction")
	partnerUp     = describe("partner_connected", "1 while this member has a session with the server.", "partner")
	findingCount  = describe("findings", "Conditions that hold now.", "code", "severity")
	dbBytes       = describe("database_bytes", "Size of the database on disk.")
	dbStalls      = describe("database_stalls_total", "Times that the database made writers wait for the disk.")
)

// Describe is that of prometheus.Collector: what there is depends on the domain.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is that of prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	s, err := c.status(ctx)
	if err != nil {
		gauge(out, up, 0)
		return
	}
	gauge(out, up, 1)
	gauge(out, info, 1, s.Server, s.Domain, s.Version)
	gauge(out, generation, float64(s.Generation))
	for _, f := range s.Folders {
		collectFolder(out, f)
	}
	for _, p := range s.Partners {
		gauge(out, partnerUp, truth(p.Connected), p.Server)
	}
	collectFindings(out, s.Findings)
	if d := s.Database; d != nil {
		gauge(out, dbBytes, float64(d.DiskBytes))
		counter(out, dbStalls, float64(d.Stalls))
	}
}

func collectFolder(out chan<- prometheus.Metric, f *controlpb.Folder) {
	for _, state := range States {
		gauge(out, folderState, truth(f.State == state), f.Name, state)
	}
	gauge(out, folderObjects, float64(f.Files), f.Name, "file")
	gauge(out, folderObjects, float64(f.Directories), f.Name, "directory")
	gauge(out, folderObjects, float64(f.Symlinks), f.Name, "link")
	gauge(out, folderBytes, float64(f.Bytes), f.Name)
	gauge(out, tombstones, float64(f.Tombstones), f.Name)
	gauge(out, uncaptured, float64(f.Uncaptured), f.Name)
	gauge(out, inFlight, float64(f.InFlight), f.Name)
	gauge(out, walking, truth(f.Walking), f.Name)
	counter(out, captured, float64(f.Captured), f.Name)
	counter(out, installed, float64(f.Installed), f.Name)
	counter(out, contentIn, float64(f.InstalledBytes), f.Name)
	counter(out, contentOut, float64(f.ServedBytes), f.Name)
	counter(out, conflicts, float64(f.Conflicts), f.Name)
	gauge(out, open, float64(f.Open), f.Name)
	if t, err := time.Parse(time.RFC3339Nano, f.LastChange); err == nil {
		gauge(out, lastChange, float64(t.UnixNano())/1e9, f.Name)
	}
	for _, l := range f.Links {
		if !l.Known || l.Backlog == nil {
			continue
		}
		gauge(out, backlogN, float64(l.Backlog.Updates), f.Name, l.Server, l.Direction)
		if l.Backlog.Bytes >= 0 {
			gauge(out, backlogBytes, float64(l.Backlog.Bytes), f.Name, l.Server, l.Direction)
		}
	}
}

func collectFindings(out chan<- prometheus.Metric, list []*controlpb.Finding) {
	type kind struct{ code, severity string }
	count := make(map[kind]int)
	for _, f := range list {
		count[kind{f.Code, f.Severity}]++
	}
	for k, n := range count {
		gauge(out, findingCount, float64(n), k.code, k.severity)
	}
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
