package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"opendfs/internal/repl"
)

// The exported form of the CA, docs/formats/pki.md.
const (
	exportType       = "OPENDFS DOMAIN CA"
	exportVersion    = 1
	exportIterations = 1_000_000
	maxIterations    = 100_000_000 // more is nobody's honest file, and minutes of work
	exportSalt       = 16
	exportNonce      = 12
	exportHead       = 1 + 16 + 4 + exportSalt + exportNonce
	maxExport        = 64 << 10
	// MinPassphrase is the shortest passphrase in bytes.
	MinPassphrase = 8
)

// The reasons why an exported CA is not taken.
var (
	ErrPassphrase = errors.New("the passphrase is wrong, or the file is damaged")
	ErrNoExport   = errors.New("it is not a file that `dfs ca export` made")
)

// Export gives the CA's key and certificate, encrypted with a passphrase, as text.
func (a *Authority) Export(passphrase []byte) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("export the CA of domain %q: the passphrase has %d bytes; use %d at least", a.Name(), len(passphrase), MinPassphrase)
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("export the CA of domain %q: %w", a.Name(), err)
	}
	head := make([]byte, exportHead)
	head[0] = exportVersion
	copy(head[1:], a.domain[:])
	binary.BigEndian.PutUint32(head[17:], exportIterations)
	if _, err := rand.Read(head[21:]); err != nil {
		return nil, err
	}
	box, err := exportCipher(passphrase, head)
	if err != nil {
		return nil, err
	}
	sealed := box.Seal(bytes.Clone(head), head[exportHead-exportNonce:], append(key, encodeCert(a.cert.Raw)...), head)
	return pem.EncodeToMemory(&pem.Block{Type: exportType, Bytes: sealed}), nil
}

func exportCipher(passphrase, head []byte) (cipher.AEAD, error) {
	iterations := binary.BigEndian.Uint32(head[17:])
	key, err := pbkdf2.Key(sha256.New, string(passphrase), head[21:21+exportSalt], int(iterations), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// ExportDomain reads from an exported CA whose it is; nothing is proven.
func ExportDomain(text []byte) (repl.GUID, error) {
	head, _, err := splitExport(text)
	if err != nil {
		return repl.GUID{}, fmt.Errorf("read an exported CA: %w", err)
	}
	return repl.GUID(head[1:17]), nil
}

func splitExport(text []byte) (head, sealed []byte, err error) {
	if len(text) > maxExport {
		return nil, nil, ErrNoExport
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != exportType || len(block.Bytes) < exportHead {
		return nil, nil, ErrNoExport
	}
	head = block.Bytes[:exportHead]
	if head[0] != exportVersion {
		return nil, nil, fmt.Errorf("version %d, this program reads version %d; install a newer dfs", head[0], exportVersion)
	}
	if n := binary.BigEndian.Uint32(head[17:]); n == 0 || n > maxIterations {
		return nil, nil, ErrNoExport
	}
	return head, block.Bytes[exportHead:], nil
}

// ImportAuthority opens an exported CA and stores it in state, for the identity
// that is there: it must be of that CA.
func (id *Identity) ImportAuthority(text, passphrase []byte) (*Authority, error) {
	a, err := openExport(text, passphrase)
	if err == nil && (a.domain != id.domain || !a.cert.Equal(id.ca)) {
		err = fmt.Errorf("it is the CA of domain %q (%v): %w", a.Name(), a.domain, ErrOtherDomain)
	}
	if err != nil {
		return nil, fmt.Errorf("import the domain's CA: %w", err)
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	// ca.crt is there already, and is the same.
	if err := write(id.state, caKeyFile, key); err != nil {
		return nil, err
	}
	return a, nil
}

func openExport(text, passphrase []byte) (*Authority, error) {
	head, sealed, err := splitExport(text)
	if err != nil {
		return nil, err
	}
	box, err := exportCipher(passphrase, head)
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(nil, head[exportHead-exportNonce:], sealed, head)
	if err != nil {
		return nil, ErrPassphrase
	}
	key, cert, err := decodePEM(plain)
	if err != nil || key == nil || cert == nil || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.Join(ErrNoExport, err)
	}
	return newImported(head, cert, &Authority{cert: cert, key: key})
}

func newImported(head []byte, cert *x509.Certificate, a *Authority) (*Authority, error) {
	domain, err := domainOf(cert)
	if err != nil {
		return nil, err
	}
	if domain != repl.GUID(head[1:17]) {
		return nil, fmt.Errorf("its head names another domain: %w", ErrNoExport)
	}
	a.domain = domain
	return a, nil
}

// CAKeyPath is where the key of a CA lies in a state directory, for messages.
func CAKeyPath(state string) string { return filepath.Join(state, caKeyFile) }
