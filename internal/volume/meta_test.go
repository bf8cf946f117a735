package volume

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func sample() Meta {
	return Meta{Mode: 0o4755, Owner: 1000, Group: 4_000_000_000, Xattrs: []Xattr{
		{Name: "user.z", Value: []byte("z")},
		{Name: "security.NTACL", Value: bytes.Repeat([]byte("n"), 300)},
		{Name: "user.empty"},
	}}
}

func TestMetaIsCanonical(t *testing.T) {
	m := sample()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeMeta(b)
	if err != nil {
		t.Fatal(err)
	}
	if back.Mode != m.Mode || back.Owner != m.Owner || back.Group != m.Group || len(back.Xattrs) != 3 || back.Xattrs[0].Name != "security.NTACL" {
		t.Fatalf("decoded %+v of %+v", back, m)
	}
	slices.Reverse(back.Xattrs)
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Fatalf("another order made %x of %x, error %v", again, b, err)
	}
	// The document's example.
	plain := Meta{Mode: 0o644, Owner: 1000, Group: 100, Xattrs: []Xattr{{Name: "user.a", Value: []byte("1")}}}
	want := []byte{1, 1, 2, 0xa4, 0x01, 2, 4, 0xe8, 3, 0, 0, 3, 4, 100, 0, 0, 0, 4, 8, 6, 'u', 's', 'e', 'r', '.', 'a', '1'}
	if got, err := plain.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("encoded %x, want %x, error %v", got, want, err)
	}
}

func TestMetaRefusesAllElse(t *testing.T) {
	m := sample()
	good, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(good) {
		if _, err := DecodeMeta(good[:cut]); err == nil && cut != 17 && cut != 17+18+300 && cut != 17+18+300+13 {
			t.Errorf("cut to %d of %d bytes it is accepted", cut, len(good))
		}
	}
	x := func(name, value string) []byte {
		b := append([]byte{}, good[:17]...)
		b = append(b, tagXattr, byte(1+len(name)+len(value)), byte(len(name)))
		return append(append(b, name...), value...)
	}
	for what, b := range map[string][]byte{
		"version":     append([]byte{2}, good[1:]...),
		"unknown tag": append(slices.Clone(good), 5, 0),
		"mode":        append([]byte{1, 1, 2, 0, 0x10}, good[5:]...),
		"twice":       append(x("user.a", ""), x("user.a", "")[17:]...),
		"order":       append(x("user.b", ""), x("user.a", "")[17:]...),
		"trusted":     x("trusted.", ""),
		"overlay":     x("trusted.overlay.opaque", "y"),
		"security":    x("security.ima", "hash"),
		"nameless":    x("user.", ""),
		"NUL in name": x("user.a\x00b", ""),
		"long varint": append(slices.Clone(good[:17]), tagXattr, 0x87, 0x00, 6, 'u', 's', 'e', 'r', '.', 'a'),
		"nothing":     nil,
		"huge length": append(slices.Clone(good[:17]), tagXattr, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		if m, err := DecodeMeta(b); err == nil {
			t.Errorf("%s is accepted as %+v", what, m)
		}
	}
	for what, m := range map[string]Meta{
		"value": {Xattrs: []Xattr{{Name: "user.a", Value: make([]byte, MaxXattrValue+1)}}},
		"total": {Xattrs: func() (all []Xattr) {
			for i := range 17 {
				all = append(all, Xattr{Name: "user." + string(rune('a'+i)), Value: make([]byte, MaxXattrValue)})
			}
			return all
		}()},
	} {
		if _, err := m.Encode(); !errors.Is(err, ErrMetaTooLong) {
			t.Errorf("too long %s is encoded, error %v", what, err)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	m := sample()
	b, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, 1, 2, 0xa4, 0x01, 2, 4, 0xe8, 3, 0, 0, 3, 4, 100, 0, 0, 0, 4, 8, 6, 'u', 's', 'e', 'r', '.', 'a', '1'})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted, but encodes as %x, error %v", b, again, err)
		}
	})
}
