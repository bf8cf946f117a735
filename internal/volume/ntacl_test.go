package volume

import (
	"encoding/hex"
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
		v := &Disk{owners: OwnersByName}
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

// FuzzNTACL: what a client wrote into the attribute is read within its bounds.
func FuzzNTACL(f *testing.F) {
	f.Add([]byte{4, 0, 4, 0}, []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, value, acl []byte) {
		v := &Disk{owners: OwnersByName}
		v.judgeNTACL(repl.File, &Meta{Xattrs: []Xattr{{ntACL, value}, {aclAccess, acl}}})
		if _, ok := ntACLHash(value); !ok && v.DoubtedNTACLs() != 0 {
			t.Error("what holds no hash is doubted")
		}
	})
}
