package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/journal"
	"opendfs/internal/peer"
	"opendfs/internal/pki"
	"opendfs/internal/repl"

	"github.com/spf13/cobra"
)

// The defaults of a member.
const (
	defaultMetrics = "127.0.0.1:7441"
	// drainTime is how long a stop may take.
	drainTime = 5 * time.Second
	// runSocket is a second socket of the member whose state is the default.
	runSocket = "/run/dfs/" + control.SocketName
)

// serveOptions are what `dfs serve` is given.
type serveOptions struct {
	state   string
	socket  string // one more control socket, for every user; empty: the default
	metrics string // HOST:PORT or "off"
	level   slog.Level
	now     *slog.LevelVar // the level that holds: the domain may say another
}

func serveCommand(o *options) *cobra.Command {
	s := serveOptions{now: new(slog.LevelVar)}
	level := "info"
	c := &cobra.Command{
		Use:   "serve",
		Short: "run this server's member until it is stopped",
		Long: strings.TrimSpace(`
Runs the member of this server: it replicates the folders that the domain names,
answers its partners on the port of its address, and this machine's commands on
its control socket. It logs to standard error: text on a terminal, JSON
otherwise. SIGTERM stops it within five seconds, SIGHUP reads domain.yaml again.

Under systemd it is the service dfs (systemctl enable --now dfs).`),
		Example: "  dfs serve\n  dfs serve --state /srv/dfs-state --metrics 127.0.0.1:9440",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			if err := s.level.UnmarshalText([]byte(level)); err != nil {
				return usageError("--log-level %q: use debug, info, warn or error", level)
			}
			s.state, s.socket = o.state, o.socket
			s.now.Set(s.level)
			return serve(c.Context(), s, newLog(c.ErrOrStderr(), s.now))
		}),
	}
	c.Flags().StringVar(&s.metrics, "metrics", defaultMetrics, "address of the Prometheus metrics, or off")
	c.Flags().StringVar(&level, "log-level", level, "debug, info, warn or error")
	return c
}

// serve runs the member of a state directory until ctx ends.
func serve(ctx context.Context, o serveOptions, log *slog.Logger) (err error) {
	state, err := holdState(o.state, false)
	if err != nil {
		return servedAlready(err)
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	raiseFileLimit(log)
	limitMemory(log)
	m, err := newMember(state, log)
	if directory.IsLost(err) {
		if rescueErr := rescue(ctx, state, log, err); rescueErr != nil {
			return errors.Join(err, rescueErr)
		}
		m, err = newMember(state, log)
	}
	if err != nil {
		return err
	}
	m.level = func(l directory.LogLevel) { o.now.Set(logLevel(l, o.level)) }
	faces, err := openFaces(m, o)
	if err != nil {
		return err
	}
	defer faces.close()
	signal.Notify(m.hup, syscall.SIGHUP)
	defer signal.Stop(m.hup)
	return m.run(ctx, faces)
}

// logLevel is the level that the domain says, or that the member was started with.
func logLevel(l directory.LogLevel, started slog.Level) slog.Level {
	switch l {
	case directory.LogDebug:
		return slog.LevelDebug
	case directory.LogInfo:
		return slog.LevelInfo
	case directory.LogWarn:
		return slog.LevelWarn
	case directory.LogError:
		return slog.LevelError
	}
	return started
}

// newMember constructs the member, in reading order. Nothing runs yet.
func newMember(state *stateDir, log *slog.Logger) (*member, error) {
	if fs, err := state.onNetwork(); err != nil {
		return nil, err
	} else if fs != "" {
		return nil, control.Hint(fmt.Errorf("state directory %s is on a network filesystem (%s), whose locks and flushes the database cannot rely on", state.path, fs),
			"move it to a local disk and name that with --state")
	}
	admin, err := openAdmin(state, log)
	if err != nil {
		return nil, err
	}
	self := admin.domain().Domain.Server(admin.self())
	if self == nil {
		return nil, control.Hint(fmt.Errorf("this server, %q, is not in the domain any more", admin.id.Name()), "have it invited again, and join with a new state directory")
	}
	m := &member{
		admin: admin, state: state, log: log, started: time.Now(), find: newFindings(log), turnsOut: new(peer.Turns), level: func(directory.LogLevel) {},
		news: newNews(), heard: newHeard(), damage: make(chan error, 1), hup: make(chan os.Signal, 1), listen: self.ListenAddresses(),
	}
	limit := new(peer.Limit)
	if m.windows, err = newWindows(state, limit, log); err != nil {
		return nil, err
	}
	m.windows.session, m.windows.turns = m.session, new(peer.Turns)
	m.folders = &folders{
		state: state, find: m.find, log: log, hub: journal.NewHub(), keepers: make(map[repl.FolderID]*keeper),
		session: m.session, damaged: m.damaged, windows: m.windows, clocks: &clocks{},
		evictor: func(id repl.FolderID) engine.Directory { return evictor{m.admin, directory.UUID(id)} },
	}
	m.folders.clocks.limit.Store(int64(directory.DefaultClockSkew))
	m.windows.relink = m.folders.relink
	if m.folders.roots, err = openRoots(state.file(rootsName)); err != nil {
		return nil, err
	}
	link := peer.Config{
		Identity: admin.id, Revoked: m.revoked, Product: programVersion(), Generation: m.generation, Meter: peer.NewMeter(), Log: log.With("part", "peer"),
		Sent: m.sent,
	}
	m.partners = &partners{
		config: link, admin: admin, find: m.find, log: log, linked: m.folders.linked, list: make(map[repl.MemberID]*partner),
		changes: m.news, news: make(chan struct{}, 1), told: make(map[repl.MemberID]*directory.Domain), clocks: m.folders.clocks,
	}
	m.server = peer.ServerConfig{
		Config: link, Handler: &handler{m.folders, admin.dir, m.heard, m.news, m.windows, m.partners.heard, m.informed}, Authorize: m.mayServe, Group: m.group, Limit: limit, Turns: m.turnsOut, Door: func() *pki.Door { return admin.door(log) }, Greeted: m.partners.greeted,
	}
	m.admin.refuses = m.caseAgrees
	m.home = &home{m: m}
	m.api = control.NewServer(m, admin.may)
	m.server.Control = m.api.ServeConn
	return m, nil
}

// servedAlready adds what to do when the state directory is in use.
func servedAlready(err error) error {
	if used := new(inUseError); errors.As(err, &used) {
		return control.Hint(err, "stop that one first, or name another state directory with --state")
	}
	return err
}

// door lets newcomers in, on the server that holds the CA.
func (a *admin) door(log *slog.Logger) *pki.Door {
	ca := a.ca.Load()
	if ca == nil {
		return nil
	}
	return &pki.Door{Authority: ca, Invitations: a.invites, Accept: a.accept, Fits: a.fits, Known: a.known, Roles: a.roles, Now: time.Now, Log: log}
}

// faces are where a member is reached: by partners, by this machine's commands
// and by Prometheus. All are open before anything runs, so that a port in use
// is one clear line.
type faces struct {
	peers   *peer.Server
	sockets []interface{ Close() error }
	serving sync.WaitGroup
	api     *control.Server
	metrics *metricsServer
}

func openFaces(m *member, o serveOptions) (_ *faces, err error) {
	f := &faces{api: m.api}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	paths := []string{socketOf(m.state.path)}
	if o.socket != "" {
		paths = append(paths, o.socket)
	} else if m.state.path == defaultState {
		if st, err := os.Stat(filepath.Dir(runSocket)); err == nil && st.IsDir() {
			paths = append(paths, runSocket)
		}
	}
	for i, path := range paths {
		l, err := control.Listen(path, i > 0) // who calls on the others is known by the kernel's word
		if err != nil {
			return nil, err
		}
		f.sockets = append(f.sockets, l)
		f.serving.Go(func() {
			if err := m.api.Serve(l); err != nil {
				m.log.Error("control socket ended", "socket", path, "err", err)
			}
		})
	}
	server := m.server
	server.Listen = m.listen
	if f.peers, err = peer.Listen(context.Background(), server); err != nil {
		return nil, control.Hint(err, "is another member running on this machine? Two on one machine need two ports")
	}
	f.metrics = serveMetrics(o.metrics, m.Status, m.log)
	return f, nil
}

// close ends all faces but the partners', which end with their context.
func (f *faces) close() {
	_ = f.api.Close() // calls that are cut off are asked again by their callers
	for _, s := range f.sockets {
		_ = s.Close()
	}
	f.serving.Wait()
	f.metrics.close()
}
