package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"opendfs/internal/directory"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// ServerOptions are those of a voter: one server of a cluster that the domain's
// servers run.
type ServerOptions struct {
	// Dir is the voter's own directory, made if it is not there. Its data are
	// those of one term; those of others are removed.
	Dir string
	// Self is the name of this server, Voters the addresses (HOST:PORT) of all.
	Self   string
	Voters map[string]string
	// Domain and Term tell this cluster from any other.
	Domain directory.UUID
	Term   uint64
	// Cert, Key and CA are PEM: this server's identity, whose certificate says
	// that it may be a voter (directory.DeputyName), and the domain's CA.
	Cert, Key, CA []byte
	Log           *slog.Logger
}

// Server is a running voter.
type Server struct {
	dir  string
	etcd *embed.Etcd
	once sync.Once
}

// maxBackend bounds the database of a voter; revisions are compacted, so it holds
// some megabytes.
const maxBackend = 512 << 20

// Serve starts a voter. It does not wait for the others; a change does.
//
// Voters speak TLS to each other and take nobody whose certificate is not one of
// the domain's CA for a voter. There is no port for clients: Client is in the
// process.
func Serve(o ServerOptions) (*Server, error) {
	fail := func(err error) (*Server, error) { return nil, fmt.Errorf("start etcd on this server: %w", err) }
	s := &Server{dir: o.Dir}
	if err := s.WriteIdentity(o.Cert, o.Key, o.CA); err != nil {
		return fail(err)
	}
	cfg, err := s.config(o)
	if err != nil {
		return fail(err)
	}
	if err := removeOthers(o.Dir, filepath.Base(cfg.Dir)); err != nil {
		return fail(err)
	}
	// What etcd takes for fatal ends the goroutine in which it happens (zapTo), not
	// the member around it.
	err = errors.New("it has given up; its last lines in the log say why")
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.etcd, err = embed.StartEtcd(cfg)
	}()
	<-started
	if err != nil {
		return fail(err)
	}
	return s, nil
}

func (s *Server) config(o ServerOptions) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name = o.Self
	cfg.Dir = filepath.Join(o.Dir, fmt.Sprintf("term-%d", o.Term))
	cfg.InitialClusterToken = fmt.Sprintf("%v-%d", o.Domain, o.Term)
	var all []string
	for name, address := range o.Voters {
		all = append(all, name+"=https://"+address)
	}
	cfg.InitialCluster = strings.Join(all, ",")
	at, err := url.Parse("https://" + o.Voters[o.Self])
	if err != nil {
		return nil, err
	}
	cfg.AdvertisePeerUrls = []url.URL{*at}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "https", Host: listenAt(at.Host)}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil
	tls := &cfg.PeerTLSInfo
	tls.CertFile, tls.KeyFile, tls.TrustedCAFile = s.file(certName), s.file(keyName), s.file(caName)
	tls.ClientCertAuth = true
	// An address proves nothing; that the CA made it a voter does, both ways.
	role := directory.DeputyName(o.Domain)
	tls.SkipClientSANVerify, tls.AllowedHostnames, tls.ServerName = true, []string{role}, role
	cfg.TlsMinVersion = "TLS1.3"
	cfg.MaxRequestBytes = 4 * inline
	cfg.QuotaBackendBytes = maxBackend
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "100"
	cfg.SnapshotCount = 1000
	cfg.StrictReconfigCheck = false // voters come and go with a new term
	cfg.EnableGRPCGateway = false
	// A beat each half second is enough for what changes by hand.
	cfg.TickMs, cfg.ElectionMs = 250, 1500
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(o.Log))
	return cfg, nil
}

// listenAt gives where to listen for an address: there if it is one of this
// machine, else on every interface at its port.
func listenAt(hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	all := net.JoinHostPort("0.0.0.0", port)
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return all
	}
	if ip.Is6() {
		all = net.JoinHostPort("::", port)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return all
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == ip {
			return hostport
		}
	}
	if ip.IsLoopback() {
		return hostport
	}
	return all
}

// The files of a voter.
const (
	certName = "voter.crt"
	keyName  = "voter.key"
	caName   = "ca.crt"
)

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// WriteIdentity replaces what the voter shows to others. Connections made from
// then on show it.
func (s *Server) WriteIdentity(cert, key, ca []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for name, data := range map[string][]byte{certName: cert, keyName: key, caName: ca} {
		if err := os.WriteFile(s.file(name)+".new", data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(s.file(name)+".new", s.file(name)); err != nil {
			return err
		}
	}
	return nil
}

// removeOthers removes the data of other terms: a cluster that the domain has left.
func removeOthers(dir, keep string) error {
	list, err := filepath.Glob(filepath.Join(dir, "term-*"))
	if err != nil {
		return err
	}
	for _, old := range list {
		if filepath.Base(old) == keep {
			continue
		}
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}

// Client speaks to a cluster.
type Client = clientv3.Client

// Client gives a client of this voter, without a socket between.
func (s *Server) Client() *Client { return v3client.New(s.etcd.Server) }

// Ready is closed when the voter has found the others and knows a leader.
func (s *Server) Ready() <-chan struct{} { return s.etcd.Server.ReadyNotify() }

// Ended gives the error of a voter that has ended by itself.
func (s *Server) Ended() <-chan error { return s.etcd.Err() }

// Close stops the voter; once is enough.
func (s *Server) Close() { s.once.Do(s.etcd.Close) }

var errNoCert = errors.New("no certificate in it")
