package ad

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"opendfs/internal/directory"

	"github.com/go-ldap/ldap/v3"
	"github.com/klauspost/compress/zstd"
)

// The object that keeps the domain as a whole: what the schema of DFSR cannot say,
// and what makes a change of many objects one change.
const (
	stateClass = "msDS-AppData"
	stampWord  = "opendfs-1"
	chunk      = 512 << 10
	// The first byte of a value of msDS-ByteArray; its index (2 bytes, big-endian)
	// and a piece of the compressed text follow.
	kindText   = 'T'
	kindBefore = 'B' // of the domain before, while a change is pending
)

func stateDN(base string) string { return "CN=OpenDFS,CN=System," + base }

// state is what that object says.
type state struct {
	stamp   string // as it stands there, for compare-and-swap
	pending bool   // the objects may not say yet what doc says
	doc     *directory.Document
	before  *directory.Document // nil unless pending
}

// stampOf is the value of keywords that names a text.
func stampOf(doc *directory.Document, pending bool) string {
	sum := sha256.Sum256(doc.Text())
	word := "clean"
	if pending {
		word = "pending"
	}
	d := doc.Domain
	return fmt.Sprintf("%s term=%d generation=%d state=%s sha256=%s", stampWord, d.Term, d.Generation, word, hex.EncodeToString(sum[:]))
}

// readState reads the object; nil if there is none.
func readState(c *ldap.Conn, base string) (*state, error) {
	list, err := search(c, stateDN(base), ldap.ScopeBaseObject, "(objectClass=*)", "keywords", "msDS-ByteArray")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	s := &state{}
	for _, k := range list[0].values["keywords"] {
		if strings.HasPrefix(k, stampWord+" ") {
			s.stamp = k
		}
	}
	if s.stamp == "" {
		return nil, fmt.Errorf("%s is none that this program has written; if a newer one did, install that here", stateDN(base))
	}
	s.pending = strings.Contains(s.stamp, " state=pending ")
	values := list[0].values["msds-bytearray"]
	if s.doc, err = unpack(values, kindText); err != nil {
		return nil, fmt.Errorf("read the domain in %s: %w", stateDN(base), err)
	}
	if stampOf(s.doc, s.pending) != s.stamp {
		return nil, fmt.Errorf("read the domain in %s: its text is not the one that its stamp names; delete that object if a restore of Active Directory made it so", stateDN(base))
	}
	if s.pending {
		if s.before, err = unpack(values, kindBefore); err != nil {
			return nil, fmt.Errorf("read the domain before in %s: %w", stateDN(base), err)
		}
	}
	return s, nil
}

// pack compresses a text into values.
func pack(doc *directory.Document, kind byte) ([]string, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	rest := e.EncodeAll(doc.Text(), nil)
	if err := e.Close(); err != nil {
		return nil, err
	}
	var list []string
	for i := 0; len(rest) > 0; i++ {
		n := min(chunk, len(rest))
		head := binary.BigEndian.AppendUint16([]byte{kind}, uint16(i))
		list = append(list, string(head)+string(rest[:n]))
		rest = rest[n:]
	}
	return list, nil
}

// unpack is the inverse of pack; values of other kinds are not looked at.
func unpack(values []string, kind byte) (*directory.Document, error) {
	var mine []string
	for _, v := range values {
		if len(v) > 3 && v[0] == kind {
			mine = append(mine, v)
		}
	}
	slices.SortFunc(mine, func(a, b string) int { return cmp.Compare(a[1:3], b[1:3]) })
	var packed []byte
	for i, v := range mine {
		if int(binary.BigEndian.Uint16([]byte(v[1:3]))) != i {
			return nil, errors.New("a piece of it is missing")
		}
		packed = append(packed, v[3:]...)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(directory.MaxSize), zstd.WithDecodeAllCapLimit(false))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	text, err := d.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	return directory.Read(text, "domain in Active Directory")
}

// errSwapped is the error of a change that somebody else was faster than.
var errSwapped = errors.New("it has changed meanwhile")

// writeState replaces the state by compare-and-swap on its stamp; was nil makes
// the object. before is nil for a change that is no longer pending.
func writeState(c *ldap.Conn, base string, was *state, doc, before *directory.Document) (*state, error) {
	values, err := pack(doc, kindText)
	if err != nil {
		return nil, err
	}
	if before != nil {
		more, err := pack(before, kindBefore)
		if err != nil {
			return nil, err
		}
		values = append(values, more...)
	}
	now := &state{stamp: stampOf(doc, before != nil), pending: before != nil, doc: doc, before: before}
	if was == nil {
		r := ldap.NewAddRequest(stateDN(base), nil)
		r.Attribute("objectClass", []string{stateClass})
		r.Attribute("keywords", []string{now.stamp})
		r.Attribute("msDS-ByteArray", values)
		err = c.Add(r)
	} else {
		r := ldap.NewModifyRequest(stateDN(base), nil)
		r.Delete("keywords", []string{was.stamp}) // fails if it is not there any more: nothing is changed then
		r.Add("keywords", []string{now.stamp})
		r.Replace("msDS-ByteArray", values)
		err = c.Modify(r)
	}
	for _, code := range []uint16{ldap.LDAPResultNoSuchAttribute, ldap.LDAPResultNoSuchObject, ldap.LDAPResultEntryAlreadyExists, ldap.LDAPResultAttributeOrValueExists} {
		if ldap.IsErrorWithCode(err, code) {
			return nil, errSwapped
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", stateDN(base), err)
	}
	return now, nil
}
