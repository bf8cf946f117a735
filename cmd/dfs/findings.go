package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"opendfs/internal/finding"
)

// findings holds the member's bad conditions and writes one log line when one
// is raised and one when it is cleared. Safe for concurrent use.
type findings struct {
	set *finding.Set
	log *slog.Logger
}

func newFindings(log *slog.Logger) *findings { return &findings{finding.NewSet(0), log} }

// Raise is that of engine.Findings.
func (f *findings) Raise(code finding.Code, object, detail string) {
	if v, isNew := f.set.Raise(code, object, detail, time.Now()); isNew {
		f.log.LogAttrs(context.Background(), v.Severity.Level(), "finding raised: "+v.Text,
			slog.String("code", string(v.Code)), slog.String("object", v.Object), slog.String("detail", v.Detail), slog.String("remedy", v.Remedy))
	}
}

// Clear is that of engine.Findings.
func (f *findings) Clear(code finding.Code, object string) {
	if v, was := f.set.Clear(code, object); was {
		f.cleared(v)
	}
}

// clearObject ends every finding of an object that is gone or starts afresh.
func (f *findings) clearObject(object string) {
	for _, v := range f.set.ClearObject(object) {
		f.cleared(v)
	}
}

func (f *findings) cleared(v finding.Finding) {
	f.log.LogAttrs(context.Background(), slog.LevelInfo, "finding cleared: "+v.Text,
		slog.String("code", string(v.Code)), slog.String("object", v.Object), slog.Duration("after", time.Since(v.Since).Round(time.Millisecond)))
}

// of lists the findings of an object and of what lies in it.
func (f *findings) of(object string) []finding.Finding {
	var out []finding.Finding
	for _, v := range f.set.List() {
		if v.Object == object || strings.HasPrefix(v.Object, object+":") || strings.HasPrefix(v.Object, object+" ") {
			out = append(out, v)
		}
	}
	return out
}

// namedFindings are findings whose details name servers by their ids: they are held with
// the servers' names.
type namedFindings struct {
	*findings
	f *folders
}

// Raise is that of engine.Findings.
func (n namedFindings) Raise(code finding.Code, object, detail string) {
	n.f.mu.Lock()
	d := n.f.domain
	n.f.mu.Unlock()
	for _, s := range d.Servers {
		if id := s.ID.String(); strings.Contains(detail, id) {
			detail = strings.ReplaceAll(detail, id, s.Name)
		}
	}
	n.findings.Raise(code, object, detail)
}

// clearHolds ends the findings of what a folder held: its records go.
func (f *findings) clearHolds(folder string) {
	for _, v := range f.of(folder) {
		if v.Code == finding.MassChangeHeld {
			f.Clear(v.Code, v.Object)
		}
	}
}
