package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/health"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// newLog is the log on standard error: text for a person, JSON for a program.
func newLog(w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: plainText}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// plainText shows ids and durations in JSON as they are shown in text.
func plainText(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value; v.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(v.Duration().String())
	case slog.KindAny:
		if s, ok := v.Any().(fmt.Stringer); ok {
			a.Value = slog.StringValue(s.String())
		}
	}
	return a
}

// raiseFileLimit takes as many open files as the system gives: sessions,
// contents on their way and the database's tables each hold some.
func raiseFileLimit(log *slog.Logger) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		log.Warn("limit of open files is not known", "err", err)
		return
	}
	if l.Cur >= l.Max {
		return
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		log.Warn("limit of open files was not raised", "err", err)
	}
}

// The memory that a member aims at where nobody has set a limit.
const (
	softMemory = 256 << 20
	gcPercent  = 40
	gcHurry    = 100 // while a folder is in its initial sync, or works off changed metadata
	memoryPart = 90  // per cent of MemoryHigh, the rest is not the heap's
)

// limitMemory keeps the heap below MemoryHigh of the service, or small where
// there is none. GOMEMLIMIT and GOGC go first.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := int64(softMemory)
	if high := memoryHigh("/proc/self/cgroup", "/sys/fs/cgroup"); high > 0 {
		limit = high / 100 * memoryPart
		log.Info("memory limit taken from MemoryHigh", "bytes", limit)
	}
	debug.SetMemoryLimit(limit)
}

// hurries counts the folders that are in haste: there is one collector.
var hurries struct {
	sync.Mutex
	n int
}

// hurry lets the collector take more memory and less time, up to the limit, until the
// last folder that hurries is over. GOGC goes first.
func hurry() (over func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	count := func(by int) {
		hurries.Lock()
		defer hurries.Unlock()
		if hurries.n += by; hurries.n > 0 {
			debug.SetGCPercent(gcHurry)
		} else {
			debug.SetGCPercent(gcPercent)
		}
	}
	count(1)
	return func() { count(-1) }
}

// memoryHigh reads memory.high of this process's cgroup (version 2); 0 if there
// is none.
func memoryHigh(self, mount string) int64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(mount, path, "memory.high"))
		if err != nil {
			return 0
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil { // "max"
			return 0
		}
		return n
	}
	return 0
}

// notifier tells systemd how the service is; nothing where there is none.
type notifier struct {
	log   *slog.Logger
	every time.Duration // of the watchdog, 0 if there is none
}

func newNotifier(log *slog.Logger) *notifier {
	n := &notifier{log: log}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog of the service is not understood", "err", err)
	}
	n.every = every
	return n
}

func (n *notifier) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("service manager was not told", "state", state, "err", err)
	}
}

func (n *notifier) ready()    { n.say(daemon.SdNotifyReady) }
func (n *notifier) stopping() { n.say(daemon.SdNotifyStopping) }

// feeding ticks when the watchdog is to be fed, practically never if there is
// none.
func (n *notifier) feeding() *time.Ticker {
	if n.every <= 0 {
		return time.NewTicker(math.MaxInt64)
	}
	return time.NewTicker(n.every / 3)
}

func (n *notifier) feed(alive bool) {
	if alive {
		n.say(daemon.SdNotifyWatchdog)
	}
}

// metricsServer serves Prometheus.
type metricsServer struct {
	http *http.Server
	done chan struct{}
}

// serveMetrics serves metrics at an address, unless it is "off". A port that is
// in use is no reason not to replicate.
func serveMetrics(address string, status func(context.Context, *controlpb.StatusRequest) (*controlpb.StatusReply, error), log *slog.Logger) *metricsServer {
	if address == "off" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		hint := "name another address with --metrics, or off"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another member on this machine has it? " + hint
		}
		log.Warn("metrics are not served", "address", address, "err", err, "hint", hint)
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", health.Handler(func(ctx context.Context) (*controlpb.StatusReply, error) {
		return status(ctx, &controlpb.StatusRequest{})
	}))
	m := &metricsServer{&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, make(chan struct{})}
	go func() {
		defer close(m.done)
		if err := m.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics ended", "err", err)
		}
	}()
	return m
}

func (m *metricsServer) close() {
	if m == nil {
		return
	}
	_ = m.http.Close() // a scrape that is cut off comes again
	<-m.done
}
