package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
)

// The audit log: JSON lines in STATE, the present file and older ones.
const (
	auditName = "audit.jsonl"
	auditSize = 8 << 20 // of a file, before the next is begun
	auditKept = 4       // older files
	// maxEdits and maxAudited bound one event: edits, and bytes of a text.
	maxEdits   = 1000
	maxAudited = 4 << 10
)

// event is one line of the audit log.
type event struct {
	Number     uint64      `json:"number"`
	Time       time.Time   `json:"time"`
	Who        string      `json:"who"`
	From       string      `json:"from"`
	What       string      `json:"what"`
	Object     string      `json:"object,omitempty"`
	Term       uint64      `json:"term,omitempty"`
	Generation uint64      `json:"generation,omitempty"`
	Edits      []auditEdit `json:"edits,omitempty"`
	Error      string      `json:"error,omitempty"`
}

type auditEdit struct {
	Op       string `json:"op"`
	Object   string `json:"object"`
	Property string `json:"property,omitempty"`
	Before   string `json:"before,omitempty"`
	After    string `json:"after,omitempty"`
}

// audit appends to the log. One process has it: who holds the state directory.
type audit struct {
	path string
	size int64 // of a file

	mu     sync.Mutex
	number uint64            // guarded by mu; of the last event
	last   *directory.Domain // guarded by mu; term and generation of the last event that had them
}

// openAudit finds where the log ends; a line that a crash has cut off is removed.
func openAudit(path string) (*audit, error) {
	l := &audit{path: path, size: auditSize, last: &directory.Domain{}}
	if err := l.mend(); err != nil {
		return nil, control.Hint(fmt.Errorf("open the audit log %s: %w", path, err), "move the file aside; a new one is begun")
	}
	err := l.read(func(e *event) {
		l.number = max(l.number, e.Number)
		if d := (&directory.Domain{Term: e.Term, Generation: e.Generation}); d.Newer(l.last) {
			l.last = d
		}
	})
	if err != nil {
		return nil, control.Hint(fmt.Errorf("open the audit log: %w", err), "move the file aside; a new one is begun")
	}
	return l, nil
}

// mend removes what is behind the last line end.
func (l *audit) mend() error {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(b, '\n') + 1
	if whole == len(b) {
		return nil
	}
	return errors.Join(f.Truncate(int64(whole)), f.Sync())
}

// read visits every event that is kept, the oldest first. A line that is none is
// passed over.
func (l *audit) read(visit func(*event)) error {
	for i := auditKept; i >= 0; i-- {
		f, err := os.Open(l.file(i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r := bufio.NewReaderSize(f, 64<<10)
		for err == nil {
			var line []byte
			line, err = r.ReadBytes('\n')
			e := new(event)
			if json.Unmarshal(line, e) == nil {
				visit(e)
			}
		}
		_ = f.Close()
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func (l *audit) file(i int) string {
	if i == 0 {
		return l.path
	}
	return l.path + "." + strconv.Itoa(i)
}

// note appends an event; when it returns without an error the event is durable.
func (l *audit) note(e event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noteLocked(e)
}

func (l *audit) noteLocked(e event) error {
	e.Number, e.Time = l.number+1, time.Now().UTC().Round(0)
	b, err := json.Marshal(e)
	if err == nil {
		err = l.appendLocked(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	l.number = e.Number
	if d := (&directory.Domain{Term: e.Term, Generation: e.Generation}); d.Newer(l.last) {
		l.last = d
	}
	return nil
}

func (l *audit) appendLocked(line []byte) (err error) {
	if st, err := os.Stat(l.path); err == nil && st.Size() > 0 && st.Size()+int64(len(line)) > l.size {
		for i := auditKept; i > 0; i-- {
			if err := os.Rename(l.file(i-1), l.file(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err = f.Write(line); err == nil {
		err = f.Sync()
	}
	if err != nil { // no half line may stay in front of the next
		return errors.Join(err, f.Truncate(st.Size()))
	}
	if st.Size() == 0 {
		return syncDirectoryOf(l.path)
	}
	return nil
}

// events are the newest of those since a time, the oldest first.
func (l *audit) events(since time.Time, limit int) ([]event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []event
	err := l.read(func(e *event) {
		if e.Time.Before(since) {
			return
		}
		if len(list) == 2*limit { // keep the copying rare
			list = slices.Clone(list[limit:])
		}
		list = append(list, *e)
	})
	return list[max(0, len(list)-limit):], err
}

// editsOf are the edits of a change, bounded.
func editsOf(old, new *directory.Domain) []auditEdit {
	var list []auditEdit
	all := directory.Edits(old, new)
	for i, e := range all {
		if i == maxEdits {
			return append(list, auditEdit{Op: "…", Object: fmt.Sprintf("%d more", len(all)-i)})
		}
		list = append(list, auditEdit{e.Op, e.Object, e.Property, cut(e.Before), cut(e.After)})
	}
	return list
}

func cut(s string) string {
	if len(s) <= maxAudited {
		return s
	}
	return s[:maxAudited] + "…"
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return cut(err.Error())
}

// pathTexts are paths as text, a few of them.
func pathTexts(paths [][]byte) []string {
	var list []string
	for i, p := range paths {
		if i == 100 {
			return append(list, fmt.Sprintf("%d more", len(paths)-i))
		}
		list = append(list, strings.ToValidUTF8(string(p), "\uFFFD"))
	}
	return list
}
