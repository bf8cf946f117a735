package volume

import (
	"bytes"
	"testing"
)

func encode(t *testing.T, m Meta) []byte {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func attrs(pairs ...string) []Xattr {
	var out []Xattr
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Xattr{pairs[i], []byte(pairs[i+1])})
	}
	return out
}

// TestCarry: what a member could not set survives whatever its users do to the rest.
func TestCarry(t *testing.T) {
	want := encode(t, Meta{Mode: 0o640, Owner: 1001, Group: 1002, Xattrs: attrs("security.NTACL", "nt", "user.a", "1", "user.b", "2")})
	disk := encode(t, Meta{Mode: 0o640, Owner: 7, Group: 8, Xattrs: attrs("user.a", "1", "user.b", "2")})
	lacks := []string{"owner", "group", "xattr security.NTACL", "mtime"}
	shown, err := Shown(want, disk, lacks)
	if err != nil || !bytes.Equal(shown, disk) {
		t.Fatalf("shown %x, error %v", shown, err)
	}
	if all, err := Shown(want, want, nil); all != nil || err != nil {
		t.Fatalf("an object that has all shows %x, error %v", all, err)
	}
	// A user was quicker: his part is not taken for what could not be set.
	quick := encode(t, Meta{Mode: 0o600, Owner: 7, Group: 8, Xattrs: attrs("user.a", "1", "user.b", "2")})
	if got, err := Shown(want, quick, lacks); err != nil || !bytes.Equal(got, disk) {
		t.Fatalf("shown %x, error %v", got, err)
	}
	for name, c := range map[string]struct{ disk, want Meta }{
		"nothing": {
			Meta{Mode: 0o640, Owner: 7, Group: 8, Xattrs: attrs("user.a", "1", "user.b", "2")},
			Meta{Mode: 0o640, Owner: 1001, Group: 1002, Xattrs: attrs("security.NTACL", "nt", "user.a", "1", "user.b", "2")},
		},
		"mode and attributes": {
			Meta{Mode: 0o600, Owner: 7, Group: 8, Xattrs: attrs("user.a", "new", "user.c", "3")},
			Meta{Mode: 0o600, Owner: 1001, Group: 1002, Xattrs: attrs("security.NTACL", "nt", "user.a", "new", "user.c", "3")},
		},
		"owner and NT ACL": {
			Meta{Mode: 0o640, Owner: 9, Group: 8, Xattrs: attrs("security.NTACL", "other", "user.a", "1", "user.b", "2")},
			Meta{Mode: 0o640, Owner: 9, Group: 1002, Xattrs: attrs("security.NTACL", "other", "user.a", "1", "user.b", "2")},
		},
	} {
		if got, err := Carry(want, shown, encode(t, c.disk)); err != nil || !bytes.Equal(got, encode(t, c.want)) {
			t.Errorf("%s: carried %x, error %v", name, got, err)
		}
	}
	// Owners do not replicate any more, and the object is root's here.
	mine := encode(t, Meta{Mode: 0o640, Xattrs: attrs("user.a", "1", "user.b", "2")})
	none := Meta{Mode: 0o640, NoOwner: true, Xattrs: attrs("user.a", "1", "user.b", "2")}
	if got, err := Carry(want, mine, encode(t, none)); err != nil {
		t.Errorf("without owners: %v", err)
	} else if m, err := DecodeMeta(got); err != nil || !m.NoOwner || len(m.Xattrs) != 3 {
		t.Errorf("without owners carried %+v, error %v", m, err)
	}
	if !CanBeLacking(want, disk) || CanBeLacking(want, quick) {
		t.Error("a user's mode is taken for a missing right, or a missing right for a user's")
	}
}

// TestCanBeLackingOwnersRights: who cannot be given a file takes its owner's rights
// off it, and that is no user's doing; the same of a file that is the owner's is.
func TestCanBeLackingOwnersRights(t *testing.T) {
	want := Meta{Mode: 0o6755, Owner: 1001, Group: 1002}
	for _, c := range []struct {
		disk Meta
		can  bool
	}{
		{Meta{Mode: 0o0755, Owner: 7, Group: 8}, true},
		{Meta{Mode: 0o2755, Owner: 7, Group: 1002}, true},
		{Meta{Mode: 0o4755, Owner: 1001, Group: 8}, true},
		{Meta{Mode: 0o0755, Owner: 7, Group: 1002}, false},
		{Meta{Mode: 0o0755, Owner: 1001, Group: 1002}, false},
		{Meta{Mode: 0o0750, Owner: 7, Group: 8}, false},
	} {
		if can := CanBeLacking(encode(t, want), encode(t, c.disk)); can != c.can {
			t.Errorf("mode %o of %d and %d can be lacking: %v", c.disk.Mode, c.disk.Owner, c.disk.Group, can)
		}
	}
	given := encode(t, Meta{Mode: 0o755, Owner: 7, Group: 8})
	if CanBeLacking(given, encode(t, want)) {
		t.Error("rights that a user gave are taken for missing ones")
	}
}

// TestOwnerForms: numbers, names, and no owner at all are three forms, each canonical.
func TestOwnerForms(t *testing.T) {
	for _, m := range []Meta{
		{Mode: 0o644, Owner: 5, Group: 6},
		{Mode: 0o644, OwnerName: "ann@example.org", Group: 6},
		{Mode: 0o644, OwnerName: `EXAMPLE\ann`, GroupName: "domain users", Xattrs: attrs("user.a", "1")},
		{Mode: 0o644, NoOwner: true, Xattrs: attrs("user.a", "1")},
		{Mode: 0o644, NoOwner: true},
	} {
		b := encode(t, m)
		back, err := DecodeMeta(b)
		if err != nil || back.OwnerName != m.OwnerName || back.GroupName != m.GroupName || back.NoOwner != m.NoOwner || back.Owner != m.Owner {
			t.Errorf("%+v came back as %+v, error %v", m, back, err)
		}
		if !bytes.Equal(encode(t, back), b) {
			t.Errorf("%+v has two forms", m)
		}
	}
	for _, bad := range []Meta{{OwnerName: "a:b"}, {OwnerName: "a", Owner: 1}, {OwnerName: "0"}, {NoOwner: true, Owner: 1}, {GroupName: "a\nb"}} {
		if b, err := bad.Encode(); err == nil {
			t.Errorf("%+v was encoded as %x", bad, b)
		}
	}
}
