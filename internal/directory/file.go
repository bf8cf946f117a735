package directory

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// FileOptions say where a File is and who uses it.
type FileOptions struct {
	// Dir is the state directory; made with mode 0700 if it is not there. One
	// process uses it at a time: the caller sees to that.
	Dir string
	// Self is the id of this server.
	Self UUID
	// Key verifies copies; it is that of the domain's CA.
	Key crypto.PublicKey
	// Signer is the private key of the CA; nil on a server that does not have
	// it, which then can hold copies only.
	Signer crypto.Signer
	// Deputy gives this server's certificate (DER) and its key, with which it
	// signs what it reads where the domain lives if that is no file; nil if it
	// never does.
	Deputy func() ([]byte, crypto.Signer)
	// Rand draws ids and signs.
	Rand io.Reader
}

// File is the Store of the backend file. On the master it keeps domain.yaml,
// which may be edited by hand, and signs a copy of each generation; elsewhere
// it keeps the newest copy that partners brought.
//
// A copy names the server that signed it: that server is the master. So a
// domain.yaml on another server is not believed, whatever it says, except with
// a higher term and the CA's key at hand (a promotion that was interrupted).
type File struct {
	options  FileOptions
	watchers Watchers

	mu   sync.Mutex
	disk disk
	// doc and signed are of one term and generation, and signed.Open gives doc.
	doc    *Document
	signed *Signed
	// damaged says that domain.copy is not signed, which came from the one before.
	damaged bool
	// yaml is what domain.yaml was when it was last looked at; nil if absent.
	yaml fs.FileInfo
	// refused says why domain.yaml is not what runs; nil if it is, or if this
	// is a copy without one.
	refused error
	// home is where the domain is changed while that is no file; nil while it
	// cannot be reached.
	home Store
	// noted is what domain.servers says; nil if that is not known.
	noted []byte
}

var _ Store = (*File)(nil)

// CreateFile makes the first domain.yaml in a state directory that has none,
// with this server as the master. Ids that the document leaves out are drawn;
// Self must be the id of one of its servers.
func CreateFile(o FileOptions, doc *Document) (*File, error) {
	f, err := emptyFile(o)
	if err != nil {
		return nil, err
	}
	d, err := doc.Domain.Complete(nil, o.Rand)
	if err != nil {
		return nil, err
	}
	if d.Server(o.Self) == nil {
		return nil, fmt.Errorf("create domain %q: this server, %v, is not one of its servers; add it", d.Name, o.Self)
	}
	d.Generation = max(d.Generation, 1)
	if doc, err = doc.With(d); err != nil {
		return nil, err
	}
	return ready(f, f.publishLocked(doc))
}

// CreateCopy puts the first copy, that the master gave, into a state directory
// that has none.
func CreateCopy(o FileOptions, copied []byte) (*File, error) {
	f, err := emptyFile(o)
	if err != nil {
		return nil, err
	}
	s, err := DecodeSigned(bytes.Clone(copied))
	if err != nil {
		return nil, err
	}
	doc, err := s.Open(o.Key)
	if err != nil {
		return nil, err
	}
	return ready(f, f.storeCopyLocked(doc, s))
}

func ready(f *File, err error) (*File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func emptyFile(o FileOptions) (*File, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the domain: %w", err)
	}
	f := &File{options: o, disk: disk{dir: o.Dir}}
	for _, name := range []string{yamlName, copyName} {
		if _, there := f.disk.exists(name); there {
			return nil, fmt.Errorf("create the domain: %s is there already; this server belongs to a domain, name another state directory with --state", f.disk.path(name))
		}
	}
	return f, nil
}

// OpenFile opens what CreateFile or CreateCopy made, and finishes what a crash
// interrupted. It goes by the last good domain if domain.yaml was edited into
// something that cannot be used; Refused tells. Without any good domain the
// error says why; it is fs.ErrNotExist if there is none at all.
func OpenFile(o FileOptions) (*File, error) { return openFile(o, nil) }

func openFile(o FileOptions, step func(string) error) (*File, error) {
	f := &File{options: o, disk: disk{dir: o.Dir, step: step}}
	doc, signed, copyErr := f.readCopy()
	mine, info, yamlErr := f.readYAML()
	f.yaml = info
	switch {
	case signed == nil && info == nil:
		if errors.Is(copyErr, fs.ErrNotExist) {
			return nil, fmt.Errorf("open the domain in %s: %w; run `dfs init` or `dfs join` first", o.Dir, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("open the domain in %s: %w", o.Dir, copyErr)
	case signed == nil:
		if yamlErr != nil {
			return nil, yamlErr
		}
		if copyErr != nil && o.Signer == nil {
			return nil, fmt.Errorf("open the domain in %s: %s is not the master's and there is no good copy: %w; join again", o.Dir, yamlName, copyErr)
		}
		return ready(f, f.publishLocked(mine))
	}
	f.doc, f.signed, f.damaged = doc, signed, copyErr != nil
	// From here on a good domain is at hand: what goes wrong is told by Refused.
	var err error
	switch {
	case !f.masterLocked():
		err = f.settleCopyLocked(mine, yamlErr)
	case info == nil: // a master whose file was deleted: the copy has it
		err = f.publishLocked(doc)
	default:
		_, err = f.takeEditLocked(mine, yamlErr)
	}
	if f.refused == nil {
		f.refused = err
	}
	return f, nil
}

// readCopy reads the newest good copy. err says what is wrong with domain.copy
// itself; signed is nil if the one before it is not good either.
func (f *File) readCopy() (doc *Document, signed *Signed, err error) {
	for _, name := range []string{copyName, oldCopyName} {
		data, _, readErr := f.disk.read(name)
		if readErr == nil {
			if signed, readErr = DecodeSigned(data); readErr == nil {
				doc, readErr = signed.Open(f.options.Key)
			}
		}
		if readErr == nil {
			return doc, signed, err
		}
		if err == nil {
			err = readErr
		}
	}
	return nil, nil, err
}

// readYAML reads domain.yaml; info is nil if there is none.
func (f *File) readYAML() (*Document, fs.FileInfo, error) {
	data, info, err := f.disk.read(yamlName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, info, err
	}
	doc, err := Read(data, yamlName)
	return doc, info, err
}

// settleCopyLocked decides what a domain.yaml means on a server whose copy
// another one signed.
func (f *File) settleCopyLocked(mine *Document, yamlErr error) error {
	f.refused = nil
	if f.yaml == nil {
		return nil
	}
	if yamlErr == nil && mine.Domain.ID == f.signed.Domain {
		switch {
		case mine.Domain.Term > f.signed.Term && f.options.Signer != nil:
			return f.publishLocked(mine) // Promote was interrupted
		case mine.Domain.Term < f.signed.Term:
			f.yaml = nil // another was promoted, and putting ours aside was interrupted
			return f.disk.rename(yamlName, f.asideLocked(f.signed))
		}
	}
	f.refused = fmt.Errorf("%s is not used: %w", f.disk.path(yamlName), f.notMasterLocked())
	return nil
}

// takeEditLocked makes what domain.yaml says on the master the domain, if it
// can be, and says whether something changed.
func (f *File) takeEditLocked(mine *Document, yamlErr error) (bool, error) {
	f.refused = nil
	if yamlErr != nil {
		f.refused = yamlErr
		return false, yamlErr
	}
	if bytes.Equal(mine.Text(), f.doc.Text()) {
		return false, nil
	}
	now := f.doc.Domain
	switch {
	case mine.Domain.ID == now.ID && mine.Domain.Newer(now):
		// Update was interrupted between the two files.
		return true, f.publishLocked(mine)
	case mine.Domain.Generation != now.Generation && mine.Domain.Generation != 0:
		f.refused = &ConflictError{mine.Domain.Generation, now.Generation}
		return false, f.refused
	}
	next, err := f.successorLocked(mine, now.Generation)
	if err != nil {
		f.refused = err
		return false, err
	}
	return true, f.publishLocked(next)
}

// successorLocked is Successor on the master, which stays in the domain.
func (f *File) successorLocked(next *Document, base uint64) (*Document, error) {
	doc, err := Successor(f.doc, next, base, f.options.Rand)
	if err != nil {
		return nil, err
	}
	if doc.Domain.Server(f.options.Self) == nil {
		return nil, fmt.Errorf("change domain %q: the change removes this server, which is the master; run `dfs directory promote` on another first", doc.Domain.Name)
	}
	return doc, f.stays(doc.Domain)
}

// publishLocked makes a complete document the domain on the master: both files,
// then those who watch.
func (f *File) publishLocked(doc *Document) error {
	if f.options.Signer == nil {
		return fmt.Errorf("change domain %q: the key of the domain's CA is not here; run `dfs ca import`", doc.Domain.Name)
	}
	s, err := Sign(doc, f.options.Self, f.options.Signer, f.options.Rand)
	if err != nil {
		return err
	}
	if _, err := s.Open(f.options.Key); err != nil {
		return fmt.Errorf("change domain %q: the CA's private key does not fit its certificate: %w", doc.Domain.Name, err)
	}
	if doc.Domain.Home.Kind != HomeFile {
		return f.leaveLocked(doc, s)
	}
	if f.refused != nil { // what the administrator wrote there is kept
		if err := f.disk.keepOld(yamlName, refusedName); err != nil {
			return err
		}
	}
	if err := f.disk.write(yamlName, doc.Text()); err != nil {
		return err
	}
	f.yaml, _ = f.disk.exists(yamlName)
	f.refused = nil
	return f.storeCopyLocked(doc, s)
}

// storeCopyLocked makes a verified copy the domain, on disk and in memory.
func (f *File) storeCopyLocked(doc *Document, s *Signed) error {
	if f.signed != nil && !f.damaged { // the one before is to be a good one
		if err := f.disk.keepOld(copyName, oldCopyName); err != nil {
			return err
		}
	}
	if err := f.disk.write(copyName, s.Encode()); err != nil {
		return err
	}
	f.doc, f.signed, f.damaged = doc, s, false
	f.watchers.Tell(doc.Domain)
	return f.noteServersLocked()
}

// masterLocked says that domain.yaml is here.
func (f *File) masterLocked() bool {
	return f.signed.Signer == f.options.Self && f.doc.Domain.Home.Kind == HomeFile
}

func (f *File) notMasterLocked() error {
	if f.doc.Domain.Home.Kind != HomeFile {
		return f.awayError(f.doc.Domain)
	}
	e := &NotMasterError{Master: f.signed.Signer.String()}
	if s := f.doc.Domain.Server(f.signed.Signer); s != nil {
		e.Master = s.Name
		if len(s.Addresses) > 0 {
			e.Address = s.Addresses[0]
		}
	}
	return e
}

// Load is that of Store.
func (f *File) Load(context.Context) (*Document, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doc, nil
}

// Watch is that of Store.
func (f *File) Watch(ctx context.Context) <-chan *Domain {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watchers.Add(ctx, f.doc.Domain)
}

// Update is that of Store. On a server that is not the master it is refused
// with a *NotMasterError. An edit of domain.yaml that Refresh has not seen yet
// comes first: it is a change like another.
//
// A change of where the domain lives begins a new term. While that is no file,
// changes are made there; an *AwayError says that this server cannot.
func (f *File) Update(ctx context.Context, base uint64, next *Document) (*Document, error) {
	f.mu.Lock()
	if f.doc.Domain.Home.Kind != HomeFile {
		f.mu.Unlock()
		return f.updateAway(ctx, base, next)
	}
	defer f.mu.Unlock()
	if !f.masterLocked() {
		return nil, f.notMasterLocked()
	}
	if _, err := f.refreshLocked(); err != nil && f.refused == nil {
		return nil, err
	}
	doc, err := f.successorLocked(next, base)
	if err != nil {
		return nil, err
	}
	if err := f.publishLocked(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// Master gives the id of the server that signed the domain, and whether the domain
// is changed on this one.
func (f *File) Master() (UUID, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signed.Signer, f.masterLocked() || f.home != nil && f.doc.Domain.Home.Kind != HomeFile
}

// Refused says why the domain.yaml in the state directory is not what runs,
// nil if all is well. It is a finding, directory-edit-refused.
func (f *File) Refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// ReadCopy reads the newest good copy in a state directory and changes nothing:
// what the domain was before OpenFile takes an edit into it.
func ReadCopy(o FileOptions) (*Document, error) {
	f := &File{options: o, disk: disk{dir: o.Dir}}
	doc, _, err := f.readCopy()
	if doc == nil {
		return nil, err
	}
	return doc, nil
}
