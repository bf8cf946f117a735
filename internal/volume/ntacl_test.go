package volume

import (
	"encoding/hex"
	"slices"
	"testing"

	"opendfs/internal/repl"
)

// TestSambasHashOfThePOSIXSide: attributes as smbd 4.17 wrote them, beside the owner, mode and ACLs that it wrote with them.
func TestSambasHashOfThePOSIXSide(t *testing.T) {
	bytes := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const acl = "0200000001000700ffffffff020007000000000004000500ffffffff080005000000000010000700ffffffff20000500ffffffff"
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	const head = "0400040000000200040002000100"
	file := Meta{Mode: 0o775, Xattrs: []Xattr{
		{ntACL, bytes(head + "81918bb6687ebc918b61d522287ac362533493ad5f6ff71b63d3893d1704f9af" + zeros + "706f7369785f61636c00" + "a262622d3f7add01" +
			"5dd2b193e43b4dc35157ee98c7526c731dd3e007cf250e67358da2c7ca90748e" + zeros + "01000480")},
		{aclAccess, bytes(acl)},
	}}
	directory := Meta{Mode: 0o775, Xattrs: []Xattr{
		{ntACL, bytes(head + "f914d77137c0857dc078a5b1bf3933edde54207dfda6a541b6276fc738ddb0c6" + zeros + "706f7369785f61636c00" + "f8ae6f2d3f7add01" +
			"0da4270ae6b917c1692ed2e29bf473082239edf9883d68cb10aecc5e00e7ee07" + zeros + "01000480")},
		{aclAccess, bytes(acl)}, {aclDefault, bytes(acl)},
	}}
	for kind, m := range map[repl.Type]*Meta{repl.File: &file, repl.Directory: &directory} {
		want, ok := ntACLHash(m.Xattrs[0].Value)
		if !ok {
			t.Fatalf("%v: no hash is found", kind)
		}
		if is, ok := posixHash(kind, m); !ok || is != want {
			t.Errorf("%v: hash %x, Samba wrote %x", kind, is, want)
		}
		v := &Disk{owners: OwnersByName, names: phoneBook{}}
		v.judgeNTACL(kind, m)
		if n := v.DoubtedNTACLs(); n != 0 {
			t.Errorf("%v: %d are doubted that Samba believes", kind, n)
		}
		m.Group = 7
		v.judgeNTACL(kind, m)
		if n := v.DoubtedNTACLs(); n != 1 {
			t.Errorf("%v: %d are doubted with another group, it should be one", kind, n)
		}
		m.Group = 0
	}
}

// TestWhomNumbersMean: an attribute as smbd 4.17 wrote it on a server of a domain that numbers its users from 100000, where a server reads it that
// numbers them from 500000.
func TestWhomNumbersMean(t *testing.T) {
	bytes := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const domain = "S-1-5-21-4113557114-1955429249-2194341981-"
	m := Meta{Mode: 0o775, Owner: 101103, Group: 100513, Xattrs: []Xattr{
		{ntACL, bytes("0400040000000200040002000100174b50b56591c0224dfe65e7b72ada85b99226ef86501d3e8ef2dc5d8b232e4c0000000000000000000000000000000000000000000000000000000000000000706f7369785f61636c00f2dcd0e9807add01e834db3bc5016283b48f274ef3eb6e336bcb146a1220c2d3a86f588a91ea576e000000000000000000000000000000000000000000000000000000000000000001000480b4000000d000000000000000ec0000000105000000000005150000007ae62ff5817b8d745d00cb824f0400000105000000000005150000007ae62ff5817b8d745d00cb8201020000020088000400000000001400a900120001010000000000010000000000002400ff011f000105000000000005150000007ae62ff5817b8d745d00cb824f04000000002400a90012000105000000000005150000007ae62ff5817b8d745d00cb820102000000002400ff0113000105000000000005150000007ae62ff5817b8d745d00cb8251040000")},
		{aclAccess, bytes("0200000001000700ffffffff02000500a188010002000700f18a010004000500ffffffff08000500a188010008000700ef8a010008000700f18a010010000700ffffffff20000500ffffffff")},
	}}
	for _, c := range []struct {
		names phoneBook
		want  []string
	}{
		{phoneBook{domain + "1103": 501103, domain + "513": 500513}, []string{domain + "1103 is 501103 here and owns files as 101103", domain + "513 is 500513 here and owns files as 100513"}},
		{phoneBook{domain + "1103": 101103, domain + "513": 100513}, nil},
		{phoneBook{"nobody": 1}, nil},
		{nil, nil},
	} {
		v := &Disk{owners: OwnersNumeric, names: c.names}
		v.judgeNTACL(repl.File, &m)
		if got := v.OtherNumbers(); !slices.Equal(got, c.want) || v.DoubtedNTACLs() != 0 {
			t.Errorf("%v: other numbers %q, they should be %q", c.names, got, c.want)
		}
	}
	// By name they have other numbers here: Samba believes the NT ACL where its SIDs have these.
	m.Owner, m.Group = 501103, 500513
	for _, c := range []struct {
		names phoneBook
		want  int64
	}{{phoneBook{domain + "1103": 501103, domain + "513": 500513}, 0}, {phoneBook{domain + "1103": 501103}, 1}, {phoneBook{"nobody": 1}, 1}} {
		v := &Disk{owners: OwnersByName, names: c.names}
		v.judgeNTACL(repl.File, &m)
		if got := v.DoubtedNTACLs(); got != c.want || v.OtherNumbers() != nil {
			t.Errorf("%v: %d are doubted, it should be %d", c.names, got, c.want)
		}
	}
	m.Owner, m.Group = 0, 100513 // somebody else changed it since
	v := &Disk{owners: OwnersNumeric, names: phoneBook{domain + "1103": 501103}}
	if v.judgeNTACL(repl.File, &m); v.OtherNumbers() != nil {
		t.Errorf("of an owner that the NT ACL does not mean: %q", v.OtherNumbers())
	}
}

// FuzzNTACL: what a client wrote into the attribute is read within its bounds.
func FuzzNTACL(f *testing.F) {
	f.Add([]byte{4, 0, 4, 0}, []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, value, acl []byte) {
		if _, ok := ntACLHash(value); ok {
			ntOwners(value)
		}
		sidText(acl)
		v := &Disk{owners: OwnersByName, names: phoneBook{}}
		v.judgeNTACL(repl.File, &Meta{Xattrs: []Xattr{{ntACL, value}, {aclAccess, acl}}})
		if _, ok := ntACLHash(value); !ok && v.DoubtedNTACLs() != 0 {
			t.Error("what holds no hash is doubted")
		}
	})
}
