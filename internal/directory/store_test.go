package directory

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// stores are the implementations of Store under one contract.
func stores(t *testing.T, each func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) {
		s, err := NewMemory(mustRead(t, string(readFile(t, "testdata/full.yaml"))), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		each(t, s)
	})
	t.Run("file", func(t *testing.T) { each(t, newDomain(t).master(t)) })
}

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

func TestStoreUpdates(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		before := load(t, s)
		if before.Domain.Generation != 1 || before.Domain.ID.IsZero() {
			t.Fatalf("the first domain has generation %d, id %v", before.Domain.Generation, before.Domain.ID)
		}
		got, err := s.Update(t.Context(), 1, change(t, s, "new"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Domain.Generation != 2 || got.Domain.ServerByName("new").ID.IsZero() {
			t.Errorf("stored generation %d, new server %+v; want 2 and an id", got.Domain.Generation, got.Domain.ServerByName("new"))
		}
		if !strings.Contains(string(got.Text()), "# the machine in the cellar") || !strings.Contains(string(got.Text()), "generation: 2\n") {
			t.Errorf("the text has lost its comments or has no generation:\n%s", got.Text())
		}
		if now := load(t, s); !now.Domain.Equal(got.Domain) {
			t.Error("load does not give what update stored")
		}
		if before.Domain.ServerByName("new") != nil {
			t.Error("a document that was loaded before has changed")
		}
	})
}

func TestStoreRefusesAndStaysAsItWas(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		before := load(t, s)
		next := change(t, s, "new")
		var conflict *ConflictError
		if _, err := s.Update(t.Context(), 7, next); !errors.As(err, &conflict) || conflict.Current != 1 {
			t.Errorf("update on another generation: %v", err)
		}
		other := mustRead(t, "version: 1\ndomain: corp\nid: 99999999-9999-4999-8999-999999999999\n")
		if _, err := s.Update(t.Context(), 1, other); !errors.Is(err, ErrForeign) {
			t.Errorf("update with another domain: %v", err)
		}
		if now := load(t, s); !now.Domain.Equal(before.Domain) {
			t.Error("a refused update changed the domain")
		}
	})
}

// Ten commands at once each add a server; nobody's change is lost, and each
// base is taken once.
func TestStoreCompareAndSwapRaces(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		var wg sync.WaitGroup
		lost := make([]int, 10)
		for i := range lost {
			wg.Go(func() {
				for {
					doc, _ := s.Load(t.Context())
					d := doc.Domain.Clone()
					d.Servers = append(d.Servers, &Server{Name: fmt.Sprintf("racer%d", i)})
					next, err := doc.With(d)
					if err == nil {
						_, err = s.Update(t.Context(), doc.Domain.Generation, next)
					}
					var conflict *ConflictError
					switch {
					case errors.As(err, &conflict):
						lost[i]++
						continue
					case err != nil:
						t.Errorf("racer %d: %v", i, err)
					}
					return
				}
			})
		}
		wg.Wait()
		d := load(t, s).Domain
		for i := range lost {
			if d.ServerByName(fmt.Sprintf("racer%d", i)) == nil {
				t.Errorf("the change of racer %d is lost", i)
			}
		}
		if d.Generation != 11 {
			t.Errorf("generation %d after ten changes of generation 1", d.Generation)
		}
	})
}

func TestStoreWatch(t *testing.T) {
	stores(t, func(t *testing.T, s Store) {
		ctx, cancel := context.WithCancel(t.Context())
		c := s.Watch(ctx)
		if d := <-c; d.Generation != 1 {
			t.Fatalf("the first domain watched has generation %d", d.Generation)
		}
		for g := range uint64(3) { // not fetched: only the newest is kept
			if _, err := s.Update(t.Context(), g+1, change(t, s, fmt.Sprintf("new%d", g))); err != nil {
				t.Fatal(err)
			}
		}
		if d := <-c; d.Generation != 4 {
			t.Errorf("a slow watcher got generation %d, want the newest, 4", d.Generation)
		}
		cancel()
		if d, open := <-c; open {
			t.Errorf("after the end of the context came generation %d", d.Generation)
		}
		if _, err := s.Update(t.Context(), 4, change(t, s, "last")); err != nil {
			t.Errorf("update after a watcher left: %v", err)
		}
	})
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
	raw[7] = 2
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
