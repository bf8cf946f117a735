package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DialOptions say how a cluster that is there already is reached.
type DialOptions struct {
	Endpoints []string
	// Cert, Key and CA are PEM: who this server is, and whose servers it believes.
	// Without a CA the system's are believed.
	Cert, Key, CA []byte
	// User and Password are those of etcd's own users, if it asks for them.
	User, Password string
}

// Dial makes a client of a cluster that is there already. With a user it asks the
// cluster, and ends with ctx; without one it does not connect yet. The client
// outlives ctx.
func Dial(ctx context.Context, o DialOptions) (*Client, error) {
	secure, err := o.secure()
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	cfg := clientv3.Config{
		Endpoints: o.Endpoints, DialTimeout: changeTime, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		Username: o.User, Password: o.Password, Logger: zapTo(slog.New(slog.DiscardHandler)), Context: life, TLS: secure,
	}
	stop := context.AfterFunc(ctx, end)
	c, err := clientv3.New(cfg)
	if !stop() { // it has been ended with ctx
		if err == nil {
			_ = c.Close() // of no use to anybody
		}
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("dial etcd at %s: %w", strings.Join(o.Endpoints, ", "), because(ctx, err, o.Refusal))
	}
	return c, nil
}

// secure is how TLS is spoken, nil if it is not.
func (o DialOptions) secure() (c *tls.Config, err error) {
	for _, e := range o.Endpoints {
		if strings.HasPrefix(e, "https://") {
			if c, err = clientTLS(o); err != nil {
				return nil, fmt.Errorf("dial etcd: %w", err)
			}
		} else if o.User != "" {
			return nil, fmt.Errorf("dial etcd: a password would be sent in the clear to %s; use https", e)
		}
	}
	return c, nil
}

// Check asks a cluster something, to see whether it answers and lets us. If none of
// the endpoints does it says so at once.
func Check(ctx context.Context, o DialOptions) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	if _, err := o.secure(); err != nil {
		return err
	}
	if list := o.refusals(ctx); len(list) == len(o.Endpoints) {
		return fmt.Errorf("ask etcd: %s", strings.Join(list, "; "))
	}
	c, err := Dial(ctx, o)
	if err != nil {
		return err
	}
	_, err = c.Get(ctx, "/opendfs/")
	if err != nil {
		err = fmt.Errorf("ask etcd at %s: %w", strings.Join(o.Endpoints, ", "), because(ctx, err, o.Refusal))
	}
	return errors.Join(err, c.Close())
}

// refusalTime is how long the endpoints are asked why there was no answer.
const refusalTime = 2 * time.Second

// because adds to an error that tells no more than that time is over what refusal
// finds out. It may be nil.
func because(ctx context.Context, err error, refusal func(context.Context) error) error {
	if refusal == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTime)
	defer cancel()
	if why := refusal(ctx); why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return fmt.Errorf("%w: each endpoint can be reached, and there may be no leader", err)
}

// Refusal asks the endpoints by hand, all at once, and names those that cannot be
// reached or do not believe us, or that we do not believe: the client of etcd keeps
// that to itself. Nil if there are none.
func (o DialOptions) Refusal(ctx context.Context) error {
	if list := o.refusals(ctx); len(list) > 0 {
		return errors.New(strings.Join(list, "; "))
	}
	return nil
}

func (o DialOptions) refusals(ctx context.Context) []string {
	said := make([]string, len(o.Endpoints))
	var all sync.WaitGroup
	for i, e := range o.Endpoints {
		all.Go(func() {
			if err := o.probe(ctx, e); err != nil {
				said[i] = fmt.Sprintf("%s: %v", e, err)
			}
		})
	}
	all.Wait()
	var list []string
	for _, s := range said {
		if s != "" {
			list = append(list, s)
		}
	}
	return list
}

// probe connects to one endpoint. A server speaks first; one that does not believe
// our certificate says so in place of that.
func (o DialOptions) probe(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	if u.Scheme != "https" {
		return nil
	}
	cfg, err := clientTLS(o)
	if err != nil {
		return err
	}
	cfg.ServerName, cfg.NextProtos = u.Hostname(), []string{"h2"}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	_, err = tls.Client(conn, cfg).Read(make([]byte, 1))
	return err
}
