package preserve

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"opendfs/internal/repl"
	"opendfs/internal/version"
)

// manifestSuffix ends the name of every manifest and of no object.
const manifestSuffix = ".json"

// maxManifest bounds a manifest, in bytes: canonical metadata in base64 and a
// path.
const maxManifest = 4 << 20

const manifestVersion = 1

// manifest is the JSON form of an Entry, docs/formats/private-area.md.
type manifest struct {
	Version   int    `json:"version"`
	KeptAt    string `json:"kept-at"`
	Why       Why    `json:"why"`
	Path      string `json:"path"`
	PathBytes []byte `json:"path-bytes,omitempty"` // if the path is not UTF-8
	Type      string `json:"type"`
	Size      int64  `json:"size,omitempty"`
	Mtime     string `json:"mtime"`
	UID       string `json:"uid,omitempty"`
	GVSN      string `json:"gvsn,omitempty"`
	Content   string `json:"content,omitempty"`
	Winner    string `json:"winner,omitempty"`
	Meta      []byte `json:"meta,omitempty"`
}

func encode(e *Entry) ([]byte, error) {
	m := manifest{
		Version: manifestVersion, KeptAt: formatTime(e.At), Why: e.Why, Path: e.Path,
		Type: e.Type.String(), Size: e.Size, Mtime: formatTime(e.Mtime), Meta: e.Meta,
	}
	if !utf8.ValidString(e.Path) {
		m.PathBytes = []byte(e.Path)
	}
	if r := &e.Record; !r.UID.IsZero() {
		m.UID, m.GVSN = r.UID.String(), r.GVSN.String()
	}
	if c := e.Record.Content; !c.IsZero() {
		m.Content = c.String()
	}
	if !e.Winner.IsZero() {
		m.Winner = e.Winner.String()
	}
	b, err := json.MarshalIndent(&m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write manifest of %q: %w", e.Path, err)
	}
	return append(b, '\n'), nil
}

// decode reads a manifest. Unknown members are ignored, an unknown version is
// an error.
func decode(b []byte) (Entry, error) {
	var m manifest
	if len(b) > maxManifest {
		return Entry{}, fmt.Errorf("read manifest: more than %d bytes", maxManifest)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Entry{}, fmt.Errorf("read manifest: %w", err)
	}
	if m.Version != manifestVersion {
		return Entry{}, fmt.Errorf("read manifest: version %d, this program knows %d: update it", m.Version, manifestVersion)
	}
	if !slices.Contains(Reasons(), m.Why) {
		return Entry{}, fmt.Errorf("read manifest: unknown reason %q", m.Why)
	}
	e := Entry{Why: m.Why, Path: m.Path, Size: m.Size, Meta: m.Meta}
	if m.PathBytes != nil {
		e.Path = string(m.PathBytes)
	}
	var err error
	if e.At, err = parseTime(m.KeptAt); err != nil {
		return Entry{}, err
	}
	if e.Mtime, err = parseTime(m.Mtime); err != nil {
		return Entry{}, err
	}
	if err := e.decodeVersions(&m); err != nil {
		return Entry{}, fmt.Errorf("read manifest: %w", err)
	}
	return e, nil
}

func (e *Entry) decodeVersions(m *manifest) error {
	var err error
	if m.Winner != "" {
		if e.Winner, err = version.ParseGVSN(m.Winner); err != nil {
			return err
		}
	}
	if m.UID != "" {
		var uid version.GVSN
		if uid, err = version.ParseGVSN(m.UID); err != nil {
			return err
		}
		if uid.IsZero() {
			return fmt.Errorf("uid %q names nothing", m.UID)
		}
		e.Record.UID = repl.UID(uid)
		if e.Record.GVSN, err = version.ParseGVSN(m.GVSN); err != nil {
			return err
		}
	}
	if m.Content != "" {
		n, err := hex.Decode(e.Record.Content[:], []byte(m.Content[:min(len(m.Content), 2*len(e.Record.Content))]))
		if err != nil || n != len(e.Record.Content) || len(m.Content) != 2*n {
			return fmt.Errorf("content hash %.80q is not 64 hexadecimal digits", m.Content)
		}
	}
	return nil
}

// formatTime prints a time as RFC 3339 with nanoseconds, UTC.
func formatTime(t repl.Time) string { return time.Unix(0, int64(t)).UTC().Format(time.RFC3339Nano) }

func parseTime(s string) (repl.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("read manifest: %w", err)
	}
	if y := t.UTC().Year(); y < 1678 || y > 2261 {
		return 0, fmt.Errorf("read manifest: time %q does not fit into 64 bits of nanoseconds", s)
	}
	return repl.Time(t.UnixNano()), nil
}
