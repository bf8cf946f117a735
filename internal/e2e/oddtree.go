package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oddTree makes what a file server of twenty years holds: mixed ACLs, attributes, NT ACLs, streams, owners, sparse files, odd names.
type oddTree struct {
	t    testing.TB
	root string
	rng  *rand.Rand
}

// makeOddTree makes about that many files below root, the same for a seed, and gives the root itself metadata of its own.
func makeOddTree(t testing.TB, root string, files int, seed uint64) {
	t.Helper()
	o := &oddTree{t: t, root: root, rng: random(seed, "odd tree")}
	const perDir = 40
	for d := 0; d*perDir < files; d++ {
		dir := filepath.Join(root, fmt.Sprintf("%s%02d", o.name(d%3), d%20), fmt.Sprintf("part %d", d))
		o.do(os.MkdirAll(dir, 0o755))
		for i := range min(perDir, files-d*perDir) {
			o.file(filepath.Join(dir, fmt.Sprintf("%d%s", i, o.name(o.rng.IntN(len(oddNames))))), d*perDir+i)
		}
		o.directory(dir, d)
	}
	garnish(t, root)
	o.do(unix.Setxattr(root, "user.of the root", []byte("itself"), 0))
	o.directory(root, 1)
	o.do(os.Chown(root, 4321, 8765))
	o.do(os.Chmod(root, 0o2775))
	o.do(os.Chtimes(root, time.Time{}, time.Unix(1_000_000_007, 7)))
}

func (o *oddTree) do(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// oddNames end names; the last ones fill a name to its 255 bytes.
var oddNames = []string{
	".txt", " with\na line", "\xff\xfe\x80", "-rf", "😀🧾", "é", "é", "\\", "\"'`$(x)", "\t\x01", " ", ".", "%41", strings.Repeat("x", 240), strings.Repeat("語", 80),
}

func (o *oddTree) name(i int) string { return oddNames[i%len(oddNames)] }

func (o *oddTree) file(path string, number int) {
	o.t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	o.do(err)
	if number%13 == 0 {
		o.sparse(f)
	} else {
		data := make([]byte, o.rng.IntN(6000))
		scribble(o.rng, data)
		_, err = f.Write(data)
		o.do(err)
	}
	fd := int(f.Fd())
	o.do(unix.Fchown(fd, o.rng.IntN(5)*1000, o.rng.IntN(3)*70_000))
	o.do(unix.Fchmod(fd, []uint32{0o644, 0o600, 0o4755, 0o2711, 0, 0o777}[number%6]))
	for name, value := range o.attributes(number) {
		o.do(unix.Fsetxattr(fd, name, value, 0))
	}
	if number%3 == 0 {
		o.do(unix.Fsetxattr(fd, "system.posix_acl_access", o.acl(), 0))
	}
	o.do(f.Close())
	o.do(os.Chtimes(path, time.Time{}, time.Unix(o.rng.Int64N(2_000_000_000)-100_000_000, o.rng.Int64N(1_000_000_000))))
}

// attributes of a file, by its number: none, a user's, DOS attributes as Samba writes them, streams, an NT ACL.
func (o *oddTree) attributes(number int) map[string][]byte {
	random := func(n int) []byte {
		b := make([]byte, n)
		scribble(o.rng, b)
		return b
	}
	out := make(map[string][]byte)
	if number%2 == 0 {
		out["user.DOSATTRIB"] = append([]byte("0x20\x00\x00\x05\x00\x05\x00\x00\x00\x11\x00\x00\x00"), random(40)...)
	}
	if number%5 == 0 {
		out["user.DosStream.Zone.Identifier:$DATA"] = []byte("[ZoneTransfer]\r\nZoneId=3\r\n\x00")
		out["user.DosStream.\xc3\xa4 stream:$DATA"] = random(o.rng.IntN(900))
	}
	if number%7 == 0 {
		out["security.NTACL"] = random(120 + o.rng.IntN(200))
	}
	if number%11 == 0 {
		out["user.empty"], out["user.\xff not utf-8"] = nil, random(3)
	}
	return out
}

// sparse writes a little data between holes.
func (o *oddTree) sparse(f *os.File) {
	o.t.Helper()
	size := 64*1024 + int64(o.rng.IntN(3<<20))
	for range o.rng.IntN(4) {
		data := make([]byte, 1+o.rng.IntN(9000))
		scribble(o.rng, data)
		_, err := f.WriteAt(data, o.rng.Int64N(size-10_000))
		o.do(err)
	}
	o.do(f.Truncate(size))
}

// directory gives a directory an owner, a mode, and every third one a default and an access ACL.
func (o *oddTree) directory(path string, number int) {
	o.t.Helper()
	if number%3 == 1 {
		o.do(unix.Setxattr(path, "system.posix_acl_default", o.acl(), 0))
		o.do(unix.Setxattr(path, "system.posix_acl_access", o.acl(), 0))
	}
	if number%4 == 2 {
		o.do(unix.Setxattr(path, "security.NTACL", []byte("an NT ACL of a directory"), 0))
		o.do(unix.Setxattr(path, "user.DOSATTRIB", []byte("0x12\x00"), 0))
	}
	o.do(os.Chown(path, o.rng.IntN(4)*1000, o.rng.IntN(4)*1000))
	if number%3 != 1 {
		o.do(os.Chmod(path, []os.FileMode{0o755, 0o700, 0o777 | os.ModeSticky, 0o770 | os.ModeSetgid}[number%4]))
	}
	o.do(os.Chtimes(path, time.Time{}, time.Unix(1_100_000_000+int64(number), int64(number))))
}

// acl is a POSIX ACL as the kernel takes it: owner, two users, the owning group, two groups, mask, others.
func (o *oddTree) acl() []byte {
	const undefined = ^uint32(0)
	ids := []uint32{1001 + uint32(o.rng.IntN(3)), 2000 + uint32(o.rng.IntN(3)), 70_001 + uint32(o.rng.IntN(3)), 80_000}
	b := binary.LittleEndian.AppendUint32(nil, 2)
	entry := func(tag uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(o.rng.IntN(8)))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	entry(0x01, undefined)
	entry(0x02, ids[0])
	entry(0x02, ids[1])
	entry(0x04, undefined)
	entry(0x08, ids[2])
	entry(0x08, ids[3])
	entry(0x10, undefined)
	entry(0x20, undefined)
	return b
}

// equalMetadata compares what two trees' files are beside their data, by tools that know nothing of us: getfattr, getfacl, and how much of each
// file is no hole. b may have more holes: xfs leaves a writer's file more room than it asked for.
func equalMetadata(t testing.TB, a, b string) {
	t.Helper()
	if list := fewerHoles(t, a, b); len(list) > 0 {
		t.Errorf("%d files have fewer holes in %s than in %s:\n%s", len(list), b, a, shorten(strings.Join(list, "\n"), 20))
	}
	for name, dump := range map[string]func(testing.TB, string) []string{"getfattr": attributeDump, "getfacl": aclDump} {
		was, is := dump(t, a), dump(t, b)
		only := func(in, other []string) []string {
			have := make(map[string]bool, len(other))
			for _, s := range other {
				have[s] = true
			}
			return slices.DeleteFunc(slices.Clone(in), func(s string) bool { return have[s] })
		}
		if lost, made := only(was, is), only(is, was); len(lost)+len(made) > 0 {
			t.Errorf("%s: %d of %d blocks are only in %s, %d only in %s:\n%s\nbut\n%s", name, len(lost), len(was), a, len(made), b,
				shorten(strings.Join(lost, "\n"), 20), shorten(strings.Join(made, "\n"), 20))
		}
	}
}

// fewerHoles lists the files of b of which more is data than in a.
func fewerHoles(t testing.TB, a, b string) (out []string) {
	t.Helper()
	was, is := dataBytes(t, a), dataBytes(t, b)
	for name, n := range is {
		if n > was[name] {
			out = append(out, fmt.Sprintf("%q: %d bytes, %d there", name, was[name], n))
		}
	}
	return out
}

// attributeDump is what getfattr says of every object, a block each.
func attributeDump(t testing.TB, root string) []string {
	t.Helper()
	return blocks(must(t, "sh", "-c", `cd "$1" && getfattr -R -P -h -d -m - -e hex .`, "sh", root))
}

// aclDump is what getfacl says of every object but links, a block each.
func aclDump(t testing.TB, root string) []string {
	t.Helper()
	return blocks(must(t, "sh", "-c", `cd "$1" && getfacl -R -P -n .`, "sh", root))
}

// blocks cuts a dump at its blank lines and leaves the private area out.
func blocks(dump string) []string {
	out := strings.Split(strings.TrimSpace(dump), "\n\n")
	return slices.DeleteFunc(out, func(s string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(s, "# file: "), "\n")
		return name == ".dfsr" || strings.HasPrefix(name, ".dfsr/")
	})
}

// dataBytes says of every file how much of it is no hole.
func dataBytes(t testing.TB, root string) map[string]int64 {
	t.Helper()
	out := make(map[string]int64)
	for name, l := range walk(t, root) {
		if l[0] != '-' {
			continue
		}
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); ; {
			from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			to, err2 := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			out[name] += to - from
			at = to
		}
		f.Close()
	}
	return out
}
