package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"testing"
	"time"

	"opendfs/internal/directory"
)

// raftStatus asks a voter as another would.
func raftStatus(t testing.TB, o ServerOptions, address string) (string, error) {
	t.Helper()
	pair, err := tls.X509KeyPair(o.Cert, o.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(o.CA)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: directory.DeputyName(o.Domain), MinVersion: tls.VersionTLS13,
	}}}
	r, err := client.Get(fmt.Sprintf("https://%s/members", address))
	if err != nil {
		return "", err
	}
	return r.Status, r.Body.Close()
}
