package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// clientTLS is how a cluster that is there already is spoken to.
func clientTLS(o DialOptions) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, fmt.Errorf("read the CA of etcd: %w", errNoCert)
		}
	}
	if len(o.Cert) > 0 {
		pair, err := tls.X509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for etcd: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// zapTo gives etcd a log that goes to ours. What etcd calls informative is for us
// of use when something is looked for.
// A fatal line ends its goroutine, never the process.
func zapTo(log *slog.Logger) *zap.Logger {
	return zap.New(&core{log: log}, zap.WithFatalHook(zapcore.WriteThenGoexit), zap.WithPanicHook(zapcore.WriteThenGoexit))
}

type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (c *core) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled is that of zapcore.Core, as With, Check, Write and Sync.
func (c *core) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), c.level(l))
}

// With adds fields.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.log, append(append([]zapcore.Field(nil), c.fields...), fields...)}
}

// Check adds the core to an entry that is to be written.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes an entry.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), c.fields...), fields...) {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	c.log.Log(context.Background(), c.level(e.Level), e.Message, args...)
	return nil
}

// Sync does nothing: each line is written at once.
func (*core) Sync() error { return nil }
