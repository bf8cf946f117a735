package directory

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Signed is a copy of the domain that proves by its signature that the master
// wrote it, or that a server that speaks to the directory read it there; whoever
// brings it. A master signs with the key of the domain's CA, a server of the
// directory with its own, whose certificate then says that it may. Its bytes are
// specified in docs/formats/domain.md, "The signed copy".
type Signed struct {
	// Term and Generation order copies; both are those of the document.
	Term, Generation uint64
	// Domain is the id of the domain, Signer that of the server that signed.
	Domain, Signer UUID
	// Text is the document.
	Text []byte
	// Certificate (DER) is that of the key that signed, from the domain's CA; nil
	// if that is the CA's own.
	Certificate []byte
	// Signature is over the bytes before it; its form is that of the key.
	Signature []byte
}

const (
	signedMagic  = "DFSDOMC\x01" // the last byte is the version of the format
	deputyMagic  = "DFSDOMC\x02" // that with a certificate
	signedHeader = 8 + 8 + 8 + 16 + 16 + 4
	signContext  = "OpenDFS signed domain copy 1\x00"
	// deputyContext keeps the two kinds of signatures apart.
	deputyContext = "OpenDFS signed domain copy 2\x00"
	maxSignature  = 512
	maxCert       = 8 << 10
)

// ErrBadCopy is the error of bytes that are not a signed copy, or whose
// signature is not that of the domain's key.
var ErrBadCopy = errors.New("it is not a copy that the domain's master signed; a copy cannot be edited, change the domain on the master")

// Sign makes the signed copy of a complete document with the key of the domain's
// CA. key is an Ed25519 or an ECDSA key; rand is its source of randomness.
func Sign(doc *Document, signer UUID, key crypto.Signer, rand io.Reader) (*Signed, error) {
	return sign(doc, signer, nil, key, rand)
}

// SignAsDeputy makes the signed copy of a document that this server, one of the
// domain's Home, read there: with its own key, whose certificate (DER) carries
// the name DeputyName.
func SignAsDeputy(doc *Document, signer UUID, cert []byte, key crypto.Signer, rand io.Reader) (*Signed, error) {
	if len(cert) == 0 || len(cert) > maxCert {
		return nil, fmt.Errorf("sign domain %q: a certificate of %d bytes", doc.Domain.Name, len(cert))
	}
	return sign(doc, signer, cert, key, rand)
}

func sign(doc *Document, signer UUID, cert []byte, key crypto.Signer, rand io.Reader) (*Signed, error) {
	d := doc.Domain
	s := &Signed{Term: d.Term, Generation: d.Generation, Domain: d.ID, Signer: signer, Text: doc.Text(), Certificate: cert}
	if d.ID.IsZero() || signer.IsZero() {
		return nil, fmt.Errorf("sign domain %q: it or its master has no id; complete it first", d.Name)
	}
	if signedHeader+len(s.Text)+2+len(cert)+2+maxSignature > MaxSize {
		return nil, fmt.Errorf("sign domain %q: its text has %d bytes, too many for a copy of %d; split the domain", d.Name, len(s.Text), MaxSize)
	}
	var err error
	switch key.Public().(type) {
	case ed25519.PublicKey:
		s.Signature, err = key.Sign(rand, s.message(), crypto.Hash(0))
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(s.message())
		s.Signature, err = key.Sign(rand, digest[:], crypto.SHA256)
	default:
		err = fmt.Errorf("a key of type %T; use Ed25519 or ECDSA", key.Public())
	}
	if err != nil {
		return nil, fmt.Errorf("sign domain %q: %w", d.Name, err)
	}
	if len(s.Signature) == 0 || len(s.Signature) > maxSignature {
		return nil, fmt.Errorf("sign domain %q: a signature of %d bytes; use Ed25519 or ECDSA", d.Name, len(s.Signature))
	}
	return s, nil
}

// message is what is signed.
func (s *Signed) message() []byte {
	if s.Certificate == nil {
		return append([]byte(signContext), s.body()...)
	}
	return append([]byte(deputyContext), s.body()...)
}

// body is everything before the signature's length.
func (s *Signed) body() []byte {
	b := make([]byte, 0, signedHeader+len(s.Text)+2+len(s.Certificate))
	if s.Certificate == nil {
		b = append(b, signedMagic...)
	} else {
		b = append(b, deputyMagic...)
	}
	b = binary.BigEndian.AppendUint64(b, s.Term)
	b = binary.BigEndian.AppendUint64(b, s.Generation)
	b = append(b, s.Domain[:]...)
	b = append(b, s.Signer[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Text)))
	b = append(b, s.Text...)
	if s.Certificate == nil {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Certificate)))
	return append(b, s.Certificate...)
}

// Encode gives the bytes of the copy.
func (s *Signed) Encode() []byte {
	b := binary.BigEndian.AppendUint16(s.body(), uint16(len(s.Signature)))
	return append(b, s.Signature...)
}

// DecodeSigned reads the bytes of a copy, at most MaxSize. It checks their form
// alone; nothing in them is to be believed before Open. The result shares data.
func DecodeSigned(data []byte) (*Signed, error) {
	bad := func(why string) (*Signed, error) {
		return nil, fmt.Errorf("read signed domain copy: %s: %w", why, ErrBadCopy)
	}
	if len(data) > MaxSize {
		return bad(fmt.Sprintf("%d bytes, more than %d", len(data), MaxSize))
	}
	if len(data) < signedHeader+2 {
		return bad(fmt.Sprintf("only %d bytes", len(data)))
	}
	magic := data[:8]
	if string(magic) != signedMagic && string(magic) != deputyMagic {
		if bytes.HasPrefix(magic, []byte(signedMagic[:7])) {
			return nil, fmt.Errorf("read signed domain copy: version %d, this program reads versions to %d; install a newer dfs", magic[7], deputyMagic[7])
		}
		return bad("it begins with other bytes")
	}
	s := &Signed{
		Term:       binary.BigEndian.Uint64(data[8:]),
		Generation: binary.BigEndian.Uint64(data[16:]),
		Domain:     UUID(data[24:40]),
		Signer:     UUID(data[40:56]),
	}
	n := binary.BigEndian.Uint32(data[56:])
	rest := data[signedHeader:]
	if uint64(n)+2 > uint64(len(rest)) {
		return bad("it is cut off")
	}
	s.Text, rest = rest[:n], rest[n:]
	if string(magic) == deputyMagic {
		c := int(binary.BigEndian.Uint16(rest))
		if c == 0 || c > maxCert || c+2+2 > len(rest) {
			return bad("the certificate's length is wrong")
		}
		s.Certificate, rest = rest[2:2+c:2+c], rest[2+c:]
	}
	m := binary.BigEndian.Uint16(rest)
	s.Signature = rest[2:]
	if int(m) != len(s.Signature) || m == 0 || m > maxSignature {
		return bad("the signature's length is wrong")
	}
	return s, nil
}

// Open verifies the signature with the public key of the domain's CA and reads
// the document. The text is not looked at before its signature holds. A copy that
// a deputy signed is believed if the CA made it one, and the document names it
// among the servers of a home that is not a file.
func (s *Signed) Open(key crypto.PublicKey) (*Document, error) {
	signer := key
	if s.Certificate != nil {
		var err error
		if signer, err = s.deputy(key); err != nil {
			return nil, fmt.Errorf("verify signed domain copy: %w", err)
		}
	}
	ok, err := holds(signer, s.message(), s.Signature)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("verify signed domain copy: the signature does not hold: %w", ErrBadCopy)
	}
	doc, err := Read(s.Text, "domain.copy")
	if err != nil {
		return nil, fmt.Errorf("read signed domain copy: %w", err)
	}
	d := doc.Domain
	if d.Term != s.Term || d.Generation != s.Generation || d.ID != s.Domain {
		return nil, fmt.Errorf("read signed domain copy: its header and its text differ: %w", ErrBadCopy)
	}
	if by := d.Server(s.Signer); s.Certificate != nil && (by == nil || !d.Home.Has(by.Name)) {
		return nil, fmt.Errorf("read signed domain copy: server %v signed it and does not speak to the directory: %w", s.Signer, ErrBadCopy)
	}
	return doc, nil
}

func holds(key crypto.PublicKey, message, signature []byte) (bool, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, signature), nil
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k, digest[:], signature), nil
	}
	return false, fmt.Errorf("verify signed domain copy: a key of type %T; use Ed25519 or ECDSA", key)
}

// DeputyName is the DNS name in the certificate of a server that may speak to the
// directory of a domain and sign what it reads there. It is no name of a machine.
func DeputyName(domain UUID) string { return domain.String() + ".directory.dfs.internal" }

// deputy gives the key of the certificate that comes with a copy, if the CA made
// it for a deputy of that domain who is the signer. Its end is not judged: what
// it signed stays signed.
func (s *Signed) deputy(ca crypto.PublicKey) (crypto.PublicKey, error) {
	cert, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("its certificate cannot be read: %w", ErrBadCopy)
	}
	if err := (&x509.Certificate{PublicKey: ca}).CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, fmt.Errorf("its certificate is not from the domain's CA: %w", ErrBadCopy)
	}
	uri := "dfs://" + s.Domain.String() + "/server/" + s.Signer.String()
	if len(cert.URIs) != 1 || cert.URIs[0].String() != uri || !slices.Contains(cert.DNSNames, DeputyName(s.Domain)) {
		return nil, fmt.Errorf("the CA has not made server %v one that speaks to the directory: %w", s.Signer, ErrBadCopy)
	}
	return cert.PublicKey, nil
}

// compare orders copies by term and generation: -1, 0 or 1.
func (s *Signed) compare(o *Signed) int {
	a, b := &Domain{Term: s.Term, Generation: s.Generation}, &Domain{Term: o.Term, Generation: o.Generation}
	switch {
	case a.Newer(b):
		return 1
	case b.Newer(a):
		return -1
	}
	return 0
}
