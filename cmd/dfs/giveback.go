package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/journal"
	"opendfs/internal/preserve"
	"opendfs/internal/repl"
	"opendfs/internal/volume"
	"opendfs/internal/wire"
)

// giveBackChunk is how many objects come back at the cost of one sync.
const giveBackChunk = 500

// giveBack is one restore under way.
type giveBack struct {
	*kept
	q     *controlpb.PreservedRestoreRequest
	dir   string   // in the tree, where everything goes; "." for the places where it was
	out   *os.Root // a directory outside, or nil
	asked bool     // for dir or out
	reply *controlpb.PreservedRestoreReply
}

// keptVersion is one kept object that is to come back. older counts the newer
// ones of the same path.
type keptVersion struct {
	preserve.Entry
	older int
}

// PreservedRestore is that of control.Member.
func (m *member) PreservedRestore(ctx context.Context, q *controlpb.PreservedRestoreRequest) (*controlpb.PreservedRestoreReply, error) {
	c, err := m.kept(q.Selection)
	if err != nil {
		return nil, err
	}
	if err := m.mayOperate(ctx, "restore to "+c.k.Name, groupOf(c.k.Name)); err != nil {
		return nil, err
	}
	g := &giveBack{kept: c, q: q, dir: ".", reply: &controlpb.PreservedRestoreReply{}}
	if err := g.target(ctx); err != nil {
		return nil, err
	}
	if g.out != nil {
		defer func() { _ = g.out.Close() }() // what was written there is synced
	}
	err = c.r.Kept(ctx, func(ctx context.Context, s *preserve.Store) error {
		versions, err := g.versions(ctx, s)
		for len(versions) > 0 && err == nil {
			n := min(len(versions), giveBackChunk)
			if g.out != nil {
				err = g.copyOut(ctx, s, versions[:n])
			} else {
				err = g.putBack(ctx, s, versions[:n])
			}
			versions = versions[n:]
		}
		return err
	})
	if g.reply.RestoredCount > 0 || err != nil {
		e := event{What: "restore", Object: "folder " + c.k.Name, Error: errorText(err)}
		e.Edits = []auditEdit{{Op: "restore", Object: "kept objects", Before: strings.Join(pathTexts(q.Selection.GetPaths()), ", "), After: fmt.Sprintf("%d restored to %s", g.reply.RestoredCount, orDot(string(q.To)))}}
		m.record(ctx, e)
	}
	m.log.Info("kept objects restored", "folder", c.k.Name, "objects", g.reply.RestoredCount, "refused", g.reply.RefusedCount)
	if err != nil {
		return nil, fmt.Errorf("%w; %d objects were restored before", err, g.reply.RestoredCount)
	}
	return g.reply, nil
}

// target finds out where to.
func (g *giveBack) target(ctx context.Context) error {
	if to := string(g.q.To); to != "" {
		g.asked = true
		if err := g.elsewhere(ctx, to); err != nil {
			return err
		}
	}
	if g.out != nil {
		g.reply.Copied = true
		if g.q.Overwrite {
			return &control.Problem{Err: fmt.Errorf("--overwrite does not hold outside of the folder: %s", g.q.To), Hint: "name an empty directory", Usage: true}
		}
		return nil
	}
	s, err := g.r.Status(ctx)
	switch {
	case err != nil:
		return err
	case g.k.ReadOnly:
		return control.Hint(fmt.Errorf("%s is read-only on this server: what is restored into it would be undone", g.k.Name),
			"restore to a directory outside of the folder: --to DIR")
	case s.Phase != wire.PhaseNormal:
		return control.Hint(fmt.Errorf("%s is not Normal yet: what is restored into it now would not count", g.k.Name),
			"`dfs status` shows how far it is; or restore to a directory outside of the folder: --to DIR")
	}
	return nil
}

// elsewhere finds the directory that was asked for: beneath the root, or
// outside of every folder.
func (g *giveBack) elsewhere(ctx context.Context, to string) error {
	if filepath.IsAbs(to) {
		to = evaluated(to)
	}
	p, err := g.m.folders.locate(to)
	switch {
	case err == nil && p.k == g.k && p.inPrivate():
		return &control.Problem{Err: fmt.Errorf("%s lies in the private area", to), Usage: true}
	case err == nil && p.k == g.k:
		g.dir = p.rel
		return nil
	case err == nil:
		return control.Hint(fmt.Errorf("%s lies in another replicated folder, %s", to, p.k.Name), "restore to a directory outside, and copy from there as a user")
	case !filepath.IsAbs(to):
		return err
	}
	// Out there a member looks and writes with all its rights.
	if err := g.m.mayAdminister(ctx, "restore to "+string(g.q.To), ""); err != nil {
		return err
	}
	if g.out, err = os.OpenRoot(to); errors.Is(err, fs.ErrNotExist) {
		return control.Hint(fmt.Errorf("directory %s does not exist", to), "make it first")
	}
	return err
}

// versions lists what is to come back: parents first, of a path the latest
// first.
func (g *giveBack) versions(ctx context.Context, s *preserve.Store) ([]keptVersion, error) {
	var all []keptVersion
	err := g.choose(ctx, s, func(e *preserve.Entry) error {
		all = append(all, keptVersion{Entry: *e})
		return nil
	})
	slices.SortFunc(all, func(a, b keptVersion) int {
		if a.Path != b.Path {
			return strings.Compare(a.Path, b.Path)
		}
		return newestFirst(a.Entry, b.Entry)
	})
	for i := range all {
		if i > 0 && all[i].Path == all[i-1].Path && !all[i].Homeless() {
			all[i].older = all[i-1].older + 1
		}
	}
	if !g.q.All {
		all = slices.DeleteFunc(all, func(v keptVersion) bool { return v.older > 0 })
	}
	return all, err
}

// home is where a version goes: an older one beside the latest, under a name
// that says when it was kept.
func (g *giveBack) home(v *keptVersion, beside bool) string {
	p := v.Path
	if v.Homeless() {
		p = v.Name
	}
	if beside || v.older > 0 {
		dir, name := path.Split(p)
		ext := path.Ext(name)
		if ext == name || len(ext) > maxExt {
			ext = ""
		}
		note := " (kept " + time.Unix(0, int64(v.At)).UTC().Format("20060102T150405.000Z") + ")"
		stem := strings.TrimSuffix(name, ext)
		p = dir + stem[:min(len(stem), maxName-len(note)-len(ext))] + note + ext
	}
	return path.Join(g.dir, p)
}

// A name's length on any filesystem, and how long what follows the last dot may
// be to be taken for its kind.
const (
	maxName = 255
	maxExt  = 16
)

// putBack moves objects into the tree and has them looked at.
func (g *giveBack) putBack(ctx context.Context, s *preserve.Store, versions []keptVersion) (err error) {
	r, err := s.Return(preserve.ReturnOptions{Now: now(), Overwrite: g.q.Overwrite, Known: g.known})
	if err != nil {
		return err
	}
	var places []journal.Dirty
	defer func() {
		err = errors.Join(err, r.Close())
		g.r.Look(context.WithoutCancel(ctx), places)
	}()
	for i := range versions {
		v := &versions[i]
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if v.Homeless() && !g.asked {
			g.note(v, "", "nobody knows where it was; --to DIR puts it somewhere")
			continue
		}
		for _, beside := range []bool{false, true} {
			to := g.home(v, beside)
			err := r.Put(v.Entry, to)
			places = append(places, journal.Dirty{Path: path.Dir(to), Name: path.Base(to), Wrote: true, Tree: true})
			if g.q.All && !beside && v.Type != repl.Directory && errors.Is(err, volume.ErrExist) {
				continue
			}
			g.note(v, to, problemOf(err, to))
			break
		}
	}
	return nil
}

// known is what is on record of a place.
func (g *giveBack) known(rel string) repl.Update {
	rec, _, _, err := place{g.k, rel}.record(g.records)
	if err != nil {
		return repl.Update{} // the manifest says less
	}
	return rec.Update
}

// copyOut copies objects to a directory outside.
func (g *giveBack) copyOut(ctx context.Context, s *preserve.Store, versions []keptVersion) error {
	for i := range versions {
		v := &versions[i]
		to := g.home(v, false)
		if !filepath.IsLocal(to) {
			g.note(v, to, "its path is none")
			continue
		}
		lacks, err := s.CopyOut(ctx, v.Entry, g.out, to)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to = filepath.Join(g.out.Name(), to)
		line := g.note(v, to, problemOf(err, to))
		if len(lacks) > 0 {
			line.Problem = "without " + strings.Join(lacks, ", ")
		}
	}
	return nil
}

// problemOf says in a few words why something did not come back.
func problemOf(err error, to string) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, volume.ErrExist), errors.Is(err, fs.ErrExist):
		return "the place is taken: " + to
	case errors.Is(err, volume.ErrInUse):
		return "the file that is there is open for writing: " + to
	}
	return err.Error()
}

// note takes one object into the answer.
func (g *giveBack) note(v *keptVersion, to, problem string) *controlpb.Restored {
	line := &controlpb.Restored{Path: []byte(v.Path), To: []byte(to), KeptAt: replTime(v.At), Problem: problem}
	list, count := &g.reply.Restored, &g.reply.RestoredCount
	if problem != "" {
		list, count = &g.reply.Refused, &g.reply.RefusedCount
	}
	*count++
	if len(*list) < maxKeptListed {
		*list = append(*list, line)
	}
	return line
}
