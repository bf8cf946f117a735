package directory

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Signed is a copy of the domain that proves by its signature, made with the
// key of the domain's CA, that the master wrote it; whoever brings it. Its
// bytes are specified in docs/formats/domain.md, "The signed copy".
type Signed struct {
	// Term and Generation order copies; both are those of the document.
	Term, Generation uint64
	// Domain is the id of the domain, Signer that of the master that signed.
	Domain, Signer UUID
	// Text is the document.
	Text []byte
	// Signature is over the bytes before it; its form is that of the key.
	Signature []byte
}

const (
	signedMagic  = "DFSDOMC\x01" // the last byte is the version of the format
	signedHeader = 8 + 8 + 8 + 16 + 16 + 4
	signContext  = "OpenDFS signed domain copy 1\x00"
	maxSignature = 512
)

// ErrBadCopy is the error of bytes that are not a signed copy, or whose
// signature is not that of the domain's key.
var ErrBadCopy = errors.New("it is not a copy that the domain's master signed; a copy cannot be edited, change the domain on the master")

// Sign makes the signed copy of a complete document. key is an Ed25519 or an
// ECDSA key; rand is its source of randomness.
func Sign(doc *Document, signer UUID, key crypto.Signer, rand io.Reader) (*Signed, error) {
	d := doc.Domain
	s := &Signed{Term: d.Term, Generation: d.Generation, Domain: d.ID, Signer: signer, Text: doc.Text()}
	if d.ID.IsZero() || signer.IsZero() {
		return nil, fmt.Errorf("sign domain %q: it or its master has no id; complete it first", d.Name)
	}
	if signedHeader+len(s.Text)+2+maxSignature > MaxSize {
		return nil, fmt.Errorf("sign domain %q: its text has %d bytes, too many for a copy of %d; split the domain", d.Name, len(s.Text), MaxSize)
	}
	message := append([]byte(signContext), s.body()...)
	var err error
	switch key.Public().(type) {
	case ed25519.PublicKey:
		s.Signature, err = key.Sign(rand, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
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

// body is everything before the signature's length.
func (s *Signed) body() []byte {
	b := make([]byte, 0, signedHeader+len(s.Text))
	b = append(b, signedMagic...)
	b = binary.BigEndian.AppendUint64(b, s.Term)
	b = binary.BigEndian.AppendUint64(b, s.Generation)
	b = append(b, s.Domain[:]...)
	b = append(b, s.Signer[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Text)))
	return append(b, s.Text...)
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
	if magic := data[:8]; string(magic) != signedMagic {
		if bytes.HasPrefix(magic, []byte(signedMagic[:7])) {
			return nil, fmt.Errorf("read signed domain copy: version %d, this program reads version %d; install a newer dfs", magic[7], signedMagic[7])
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
	m := binary.BigEndian.Uint16(rest)
	s.Signature = rest[2:]
	if int(m) != len(s.Signature) || m == 0 || m > maxSignature {
		return bad("the signature's length is wrong")
	}
	return s, nil
}

// Open verifies the signature with the public key of the domain's CA and reads
// the document. The text is not looked at before its signature holds.
func (s *Signed) Open(key crypto.PublicKey) (*Document, error) {
	message := append([]byte(signContext), s.body()...)
	ok := false
	switch k := key.(type) {
	case ed25519.PublicKey:
		ok = len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, s.Signature)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		ok = ecdsa.VerifyASN1(k, digest[:], s.Signature)
	default:
		return nil, fmt.Errorf("verify signed domain copy: a key of type %T; use Ed25519 or ECDSA", key)
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
	return doc, nil
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
