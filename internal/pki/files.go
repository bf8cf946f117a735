package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files in STATE.
const (
	caCertFile      = "ca.crt"
	caKeyFile       = "ca.key"
	memberFile      = "member.pem"
	invitationsFile = "invitations.json"

	// maxFile bounds what is read back: far more than any of them needs.
	maxFile = 4 << 20
)

// write replaces a file of the state directory, durably, with mode 0600.
func write(state, name string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", filepath.Join(state, name), err)
		}
	}()
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(state, name+".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(state, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(state)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// read reads a file of the state directory and refuses one that others may read.
func read(state, name string) (_ []byte, err error) {
	path := filepath.Join(state, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read %s: mode %04o lets others read it; run chmod 600 on it, and renew the key if others use this machine", path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func exists(state, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(state, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// decodePEM takes the key and the certificate, whichever are there, from text.
func decodePEM(b []byte) (key *ecdsa.PrivateKey, cert *x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return key, cert, nil
		}
		switch block.Type {
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			var ok bool
			if key, ok = k.(*ecdsa.PrivateKey); !ok {
				return nil, nil, fmt.Errorf("key of type %T, want ECDSA", k)
			}
		case "CERTIFICATE":
			if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, nil, err
			}
		}
	}
}

// readCert reads a certificate file of the state directory.
func readCert(state, name string) (*x509.Certificate, error) {
	b, err := read(state, name)
	if err != nil {
		return nil, err
	}
	_, cert, err := decodePEM(b)
	if err == nil && cert == nil {
		err = errors.New("no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; restore it from a backup of the state directory", filepath.Join(state, name), err)
	}
	return cert, nil
}
