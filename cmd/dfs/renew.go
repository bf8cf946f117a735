package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/finding"
	"opendfs/internal/pki"
	"opendfs/internal/repl"
)

// renewTime is how long one server may take to renew a certificate.
const renewTime = 10 * time.Second

// renew renews this server's certificate when two thirds of its life are over.
func (m *member) renew(ctx context.Context) {
	now := time.Now()
	if !m.id.RenewalDue(now) {
		m.find.Clear(finding.CertificateExpiring, m.id.Name())
		return
	}
	err := m.renewNow(ctx, now)
	if err == nil {
		m.log.Info("certificate renewed", "until", m.id.NotAfter())
		m.find.Clear(finding.CertificateExpiring, m.id.Name())
		return
	}
	m.find.Raise(finding.CertificateExpiring, m.id.Name(), fmt.Sprintf("on %s: %v", m.id.NotAfter().Format(time.DateOnly), err))
}

func (m *member) renewNow(ctx context.Context, now time.Time) error {
	ca := m.ca.Load()
	if ca == nil {
		return m.renewAt(ctx)
	}
	r, err := pki.NewRequest()
	if err != nil {
		return err
	}
	cert, err := ca.Issue(r.DER, m.id.Member(), m.id.Name(), now, m.roles(m.id.Member())...)
	if err != nil {
		return err
	}
	return m.id.Renew(r, cert)
}

// renewAt asks those who may hold the CA: the master, or the servers that speak to
// the directory, then every partner.
func (m *member) renewAt(ctx context.Context) error {
	ids := m.dir.Masters()
	for _, one := range m.partners.all() {
		if id := directory.UUID(one.id); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	var errs []error
	d := m.domain().Domain
	for _, id := range ids {
		err := m.renewAtOne(ctx, d, id)
		if err == nil {
			return nil
		}
		if s := d.Server(id); s != nil && id != m.self() {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	return fmt.Errorf("no server was found that holds the CA: %w", errors.Join(errs...))
}

func (m *member) renewAtOne(ctx context.Context, d *directory.Domain, id directory.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	s := m.session(repl.MemberID(id))
	if s == nil { // the certificate may have expired: then there can be none
		holder := d.Server(id)
		if holder == nil {
			return errors.New("it is not in the domain")
		}
		return m.id.RenewAt(ctx, pki.Policy{Now: time.Now, Revoked: m.revoked}, repl.MemberID(id), holder.Addresses)
	}
	r, err := pki.NewRequest()
	if err != nil {
		return err
	}
	cert, err := s.Renew(ctx, r.DER)
	if err != nil {
		return err
	}
	return m.id.Renew(r, cert)
}
