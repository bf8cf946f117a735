package directory

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
)

func load(t *testing.T, s Store) *Document {
	t.Helper()
	doc, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// change gives the stored document with one more server.
func change(t *testing.T, s Store, server string) *Document {
	t.Helper()
	doc := load(t, s)
	d := doc.Domain.Clone()
	d.Servers = append(d.Servers, &Server{Name: server})
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestSignedCopies(t *testing.T) {
	doc := completed(t)
	d := doc.Domain.Clone()
	d.Generation = 5
	doc, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	hub := doc.Domain.ServerByName("hub").ID
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	otherPub, _, _ := ed25519.GenerateKey(rand.Reader)

	for name, s := range map[string]*Signed{
		"ed25519": must(Sign(doc, hub, priv, rand.Reader)),
		"p256":    must(Sign(doc, hub, p256, rand.Reader)),
		"p384":    must(Sign(doc, hub, p384, rand.Reader)),
	} {
		key := map[string]any{"ed25519": pub, "p256": &p256.PublicKey, "p384": &p384.PublicKey}[name]
		raw := s.Encode()
		back, err := DecodeSigned(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		opened, err := back.Open(key)
		if err != nil || !opened.Domain.Equal(doc.Domain) || back.Signer != hub || back.Generation != 5 {
			t.Errorf("%s: opened %+v, %v", name, back, err)
		}
		for other, wrong := range map[string]any{"stranger": otherPub, "p256": &p256.PublicKey, "p384": &p384.PublicKey, "ed25519": pub} {
			if other == name {
				continue
			}
			if _, err := back.Open(wrong); !errors.Is(err, ErrBadCopy) {
				t.Errorf("%s: opened with another key: %v", name, err)
			}
		}
		if _, err := back.Open("no key"); err == nil {
			t.Errorf("%s: opened without a key", name)
		}
		// Any bit that is turned, anywhere, makes it no copy.
		for i := 0; i < len(raw); i += 1 + len(raw)/97 {
			bent := append([]byte(nil), raw...)
			bent[i] ^= 1
			if s, err := DecodeSigned(bent); err == nil {
				if _, err := s.Open(key); err == nil {
					t.Errorf("%s: byte %d of %d is changed and the copy still opens", name, i, len(raw))
				}
			}
		}
		for n := range len(raw) {
			if s, err := DecodeSigned(raw[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are read as %+v", name, n, len(raw), s)
				break
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestANewerCopyFormatIsNamed(t *testing.T) {
	raw := must(Sign(completed(t), UUID{1}, must2(ed25519.GenerateKey(rand.Reader)), rand.Reader)).Encode()
	raw[7] = 3
	if _, err := DecodeSigned(raw); err == nil || !strings.Contains(err.Error(), "install a newer dfs") {
		t.Errorf("error is %v", err)
	}
	if _, err := DecodeSigned(make([]byte, MaxSize+1)); !errors.Is(err, ErrBadCopy) {
		t.Errorf("a copy that is too large: %v", err)
	}
}

func must2(_ ed25519.PublicKey, k ed25519.PrivateKey, err error) ed25519.PrivateKey {
	return must(k, err)
}

func FuzzSigned(f *testing.F) {
	seed := make([]byte, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	doc, err := mustRead(f, "version: 1\ndomain: corp\n").Complete(nil, seeded(1))
	if err != nil {
		f.Fatal(err)
	}
	good := must(Sign(doc, UUID{1}, key, nil)).Encode()
	f.Add(good)
	f.Add(good[:60])
	f.Add([]byte(signedMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeSigned(data)
		if err != nil {
			return
		}
		if back := s.Encode(); string(back) != string(data) {
			t.Fatalf("decoded and encoded again it is other bytes:\n%x\n%x", data, back)
		}
		if doc, err := s.Open(key.Public()); err == nil && string(data) != string(good) {
			t.Fatalf("a forged copy opens: %s", doc.Text())
		}
	})
}

// The bytes of docs/formats/domain.md, "The signed copy", by their offsets and
// by other means than the code's.
func TestTheBytesOfASignedCopy(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	text := "version: 1\ndomain: corp\nid: 01020304-0506-4708-890a-0b0c0d0e0f10\ngeneration: 258\nterm: 3\n"
	signer := UUID{0xaa, 15: 0xbb}
	raw := must(Sign(mustRead(t, text), signer, key, nil)).Encode()

	head := "DFSDOMC\x01" + "\x00\x00\x00\x00\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x01\x02" +
		"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10" +
		"\xaa\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xbb" + "\x00\x00\x00" + string(rune(len(text)))
	want := head + text + "\x00\x40"
	if got := string(raw[:len(raw)-64]); got != want {
		t.Errorf("bytes before the signature:\n%x\nwant\n%x", got, want)
	}
	message := "OpenDFS signed domain copy 1\x00" + head + text
	if len(message)-len(head)-len(text) != 29 || !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte(message), raw[len(raw)-64:]) {
		t.Error("the signature is not over what the document says")
	}
}
