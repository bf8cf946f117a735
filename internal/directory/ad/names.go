package ad

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"opendfs/internal/directory"
)

// nameOf makes a name of ours of a common name, which may hold anything: letters,
// digits, '.', '_' and '-' stay, all else becomes '-'. The result is unique in
// taken, which gets it.
func nameOf(cn string, taken map[string]bool) string {
	var b strings.Builder
	for _, c := range cn {
		alnum := c < 128 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
		if alnum || b.Len() > 0 && (c == '.' || c == '_' || c == '-') {
			b.WriteRune(c)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
		if b.Len() == 60 {
			break
		}
	}
	base := strings.TrimRight(b.String(), "-.")
	if base == "" {
		base = "x"
	}
	name := base
	for i := 2; taken[name]; i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	taken[name] = true
	return name
}

// pathToAD writes a path as it stands in Active Directory: ours as they are, and
// /D:/data as D:\data.
func pathToAD(p string) string {
	if len(p) >= 3 && isDrive(p[1:]) {
		return strings.ReplaceAll(p[1:], "/", `\`)
	}
	return p
}

// pathFromAD is the inverse of pathToAD.
func pathFromAD(p string) string {
	if !isDrive(p) {
		return p
	}
	return "/" + strings.TrimRight(strings.ReplaceAll(p, `\`, "/"), "/")
}

func isDrive(p string) bool {
	return len(p) >= 2 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z'
}

// under gives the path of a private directory of a root.
func under(root, windows, ours string) string {
	if isDrive(root) {
		return root + `\DfsrPrivate\` + windows
	}
	return root + "/.dfsr/" + ours
}

// filterToAD joins patterns as Windows' tools do.
func filterToAD(list []string) string { return strings.Join(list, ", ") }

// filterFromAD takes patterns apart. "," alone is none.
func filterFromAD(s string) []string {
	var list []string
	for p := range strings.SplitSeq(s, ",") {
		p = strings.TrimSpace(p)
		if p != "" && len(p) <= 255 && !strings.Contains(p, "/") && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// mib rounds a size up to what Active Directory counts in.
func mib(s directory.Size) string {
	return strconv.FormatInt((int64(s)+int64(directory.MiB)-1)/int64(directory.MiB), 10)
}

const minQuota = 10 * directory.MiB

// sizeFrom reads a size; was is taken if it is written the same.
func sizeFrom(text string, was directory.Size) directory.Size {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || text == mib(was) {
		return was
	}
	return max(directory.Size(n)*directory.MiB, minQuota)
}

// boolFrom reads a boolean; absent is what is said.
func boolFrom(text string, absent bool) bool {
	if text == "" {
		return absent
	}
	return text == "TRUE"
}

func boolTo(v bool) string {
	if v {
		return "TRUE"
	}
	return "FALSE"
}

// The GUIDs of Active Directory have their first three fields little-endian.

func guidFrom(b string) (u directory.UUID, ok bool) {
	if len(b) != len(u) {
		return u, false
	}
	copy(u[:], b)
	swap(&u)
	return u, !u.IsZero()
}

func swap(u *directory.UUID) {
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
}

// extension begins msDFSR-Extension of an object that has an id of ours: the 16
// bytes of the id follow.
const extension = "OpenDFS1"

// idOf gives the id of an object: ours, or its objectGUID.
func (o *object) idOf() directory.UUID {
	if e, ours := strings.CutPrefix(o.one("msDFSR-Extension"), extension); ours && len(e) == 16 {
		return directory.UUID([]byte(e))
	}
	u, _ := guidFrom(o.one("objectGUID"))
	return u
}

// guidText writes an id as Windows names its objects.
func guidText(u directory.UUID) string { return strings.ToUpper(u.String()) }

func number(n int) string { return fmt.Sprint(n) }
