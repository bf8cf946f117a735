package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"opendfs/internal/volume"

	"github.com/zeebo/blake3"
)

// The output of `dfs hash` is a line for each object: five columns that end
// with a blank, the parts of its metadata, a tab, its path. With --json a line
// is an object.
const (
	noContent   = "-"
	maxHashLine = 64 << 20 // with the names of all attributes
)

// metaParts names the parts of canonical metadata, by which differences are
// told. Values are as they are where they are short, and hashes else.
func metaParts(b []byte) (map[string]string, error) {
	m, err := volume.DecodeMeta(b)
	if err != nil {
		return nil, err
	}
	parts := map[string]string{"mode": fmt.Sprintf("%04o", m.Mode)}
	if !m.NoOwner {
		parts["owner"], parts["group"] = m.OwnerName, m.GroupName
		if m.OwnerName == "" {
			parts["owner"] = strconv.FormatUint(uint64(m.Owner), 10)
		}
		if m.GroupName == "" {
			parts["group"] = strconv.FormatUint(uint64(m.Group), 10)
		}
	}
	for _, x := range m.Xattrs {
		sum := blake3.Sum256(x.Value)
		parts[partName(x.Name)] = hex.EncodeToString(sum[:8])
	}
	return parts, nil
}

// partName is what people call an extended attribute.
func partName(xattr string) string {
	switch {
	case xattr == "system.posix_acl_access":
		return "ACL"
	case xattr == "system.posix_acl_default":
		return "default ACL"
	case xattr == "security.NTACL":
		return "NT ACL"
	case xattr == "user.DOSATTRIB":
		return "DOS attributes"
	}
	if stream, ok := strings.CutPrefix(xattr, "user.DosStream."); ok {
		return "stream " + shownPath(strings.TrimSuffix(stream, ":$DATA"))
	}
	return "attribute " + shownPath(xattr)
}

// shownPath is a name that fits into a line: as it is, or quoted where it holds
// what a line or a terminal would not bear.
func shownPath(path string) string {
	if !utf8.ValidString(path) || strings.HasPrefix(path, `"`) {
		return strconv.Quote(path)
	}
	for _, r := range path {
		if !strconv.IsPrint(r) {
			return strconv.Quote(path)
		}
	}
	return path
}

// hashWriter writes objects as lines.
type hashWriter struct {
	out    *bufio.Writer
	asJSON bool
}

func newHashWriter(out io.Writer, asJSON bool) *hashWriter {
	return &hashWriter{bufio.NewWriterSize(out, 64<<10), asJSON}
}

func (w *hashWriter) write(h *hashed) error {
	if w.asJSON {
		line, err := json.Marshal(h)
		if err != nil {
			return err
		}
		_, err = w.out.Write(append(line, '\n'))
		return err
	}
	content := h.Content
	if content == "" {
		content = noContent
	}
	parts := make([]string, 0, len(h.Parts))
	for _, name := range slices.Sorted(maps.Keys(h.Parts)) {
		parts = append(parts, name+"="+h.Parts[name])
	}
	_, err := fmt.Fprintf(w.out, "%s %s %s %s %s %s\t%s\n", h.Record, content, h.Metadata, h.Mtime, h.Type, strings.Join(parts, ", "), h.Path)
	return err
}

func (w *hashWriter) flush() error { return w.out.Flush() }

// readHashes reads what the command printed, in either form.
func readHashes(in io.Reader) (map[string]*hashed, error) {
	all := make(map[string]*hashed)
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxHashLine)
	for n := 1; s.Scan(); n++ {
		h, err := parseHashed(s.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all[h.Path] = h
	}
	return all, s.Err()
}

var errNotHashes = errors.New("not the output of `dfs hash`")

func parseHashed(line string) (*hashed, error) {
	h := &hashed{}
	if strings.HasPrefix(line, "{") {
		if err := json.Unmarshal([]byte(line), h); err != nil || h.Path == "" || h.Record == "" {
			return nil, errors.Join(errNotHashes, err)
		}
		return h, nil
	}
	head, path, ok := strings.Cut(line, "\t")
	f := strings.SplitN(head, " ", 6)
	if !ok || len(f) != 6 || path == "" || len(f[0]) != 64 {
		return nil, errNotHashes
	}
	h.Record, h.Content, h.Metadata, h.Mtime, h.Type, h.Path = f[0], f[1], f[2], f[3], f[4], path
	if h.Content == noContent {
		h.Content = ""
	}
	h.Parts = make(map[string]string)
	for part := range strings.SplitSeq(f[5], ", ") {
		if at := strings.LastIndex(part, "="); at > 0 {
			h.Parts[part[:at]] = part[at+1:]
		}
	}
	return h, nil
}

// differs names what is not the same in two objects, nothing if all is.
func (h *hashed) differs(o *hashed) []string {
	if h.Record == o.Record {
		return nil
	}
	if h.Type != o.Type {
		return []string{fmt.Sprintf("a %s here, a %s there", h.Type, o.Type)}
	}
	var out []string
	if h.Content != o.Content {
		out = append(out, map[bool]string{true: "target", false: "data"}[h.Type == "link"])
	}
	parts := maps.Clone(h.Parts)
	maps.Copy(parts, o.Parts)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		here, is := h.Parts[name]
		there, was := o.Parts[name]
		switch {
		case !is:
			out = append(out, name+" (only there)")
		case !was:
			out = append(out, name+" (only here)")
		case here != there && len(here) < 16 && len(there) < 16:
			out = append(out, fmt.Sprintf("%s (%s here, %s there)", name, here, there))
		case here != there:
			out = append(out, name)
		}
	}
	if h.Mtime != o.Mtime {
		out = append(out, "time")
	}
	return out
}

// hashDifference is a line of `dfs hash --check --json`.
type hashDifference struct {
	Path    string   `json:"path"`
	Differs []string `json:"differs"`
}

// compare prints what is not as the file says.
func (h *hashing) compare(paths []string, file string, out io.Writer, asJSON bool) error {
	in := io.ReadCloser(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("compare with other hashes: %w", err)
		}
		in = f
	}
	there, err := readHashes(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	w := bufio.NewWriter(out)
	compared, different := 0, 0
	say := func(path string, what []string) error {
		if len(what) == 0 {
			return nil
		}
		different++
		if asJSON {
			return json.NewEncoder(w).Encode(hashDifference{path, what})
		}
		_, err := fmt.Fprintf(w, "%s: %s\n", path, strings.Join(what, ", "))
		return err
	}
	err = h.walk(paths, func(o *hashed) error {
		compared++
		is, ok := there[o.Path]
		if !ok {
			return say(o.Path, []string{"only here"})
		}
		delete(there, o.Path)
		return say(o.Path, o.differs(is))
	})
	for _, path := range slices.Sorted(maps.Keys(there)) {
		if h.failed > 0 || err != nil {
			break // what could not be read would count as missing
		}
		err = say(path, []string{"only there"})
	}
	if err = errors.Join(err, w.Flush(), h.trouble()); err != nil {
		return err
	}
	if different > 0 {
		return &failure{fmt.Errorf("%s of %s objects differ", thousands(int64(different)), thousands(int64(compared+len(there)))), exitNotYet}
	}
	if !asJSON {
		_, err = fmt.Fprintf(out, "The same: %s objects.\n", thousands(int64(compared)))
	}
	return err
}
