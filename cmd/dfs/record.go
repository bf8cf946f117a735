package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/repl"
	"opendfs/internal/store"
	"opendfs/internal/version"
	"opendfs/internal/volume"

	"github.com/spf13/cobra"
)

func recordCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "record PATH",
		Short: "print the ID record of a file or directory",
		Long: strings.TrimSpace(`
Prints the whole ID record of an object, by the names that DFSR gives its fields.
PATH is a local path, or GROUP/FOLDER:relative.`),
		Example: "  dfs record /srv/docs/plan.odt\n  dfs record projects/docs:plan.odt",
		Args:    one("PATH"),
		RunE: does(func(c *cobra.Command, args []string) error {
			path, err := userPath(args[0])
			if err != nil {
				return err
			}
			r, err := askRunning(c.Context(), o, func(ctx context.Context, m *control.Client) (*controlpb.RecordReply, error) {
				return m.Record(ctx, &controlpb.RecordRequest{Path: []byte(path)})
			})
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), r.Record)
			}
			printRecord(c.OutOrStdout(), r.Record)
			return nil
		}),
	}
}

func printRecord(w io.Writer, r *controlpb.IDRecord) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("ReplicatedFolder", r.ReplicatedFolder)
	line("Path", r.Path)
	line("Uid", r.Uid)
	line("Gvsn", r.Gvsn)
	line("MadeBy", r.MadeBy)
	line("ParentUid", r.ParentUid)
	line("Name", r.Name)
	line("Type", r.Type)
	line("Present", yesNo(r.Present))
	if r.NameConflict {
		line("NameConflict", "yes")
	}
	line("HeirUid", r.HeirUid)
	line("Fence", r.Fence)
	line("CreateTime", clockTime(r.CreateTime))
	line("Clock", clockTime(r.Clock)+" ("+r.ClockRaw+")")
	line("Mtime", clockTime(r.Mtime))
	if r.Type == "file" {
		line("Size", thousands(r.Size)+" bytes")
	}
	line("Hash", r.Hash)
	line("Target", r.Target)
	line("Metadata", r.Metadata)
	for i, h := range r.History {
		name := ""
		if i == 0 {
			name = "History"
		}
		fmt.Fprintf(t, "%s\t%s\n", name, h)
	}
	line("Presence", r.Presence)
	if r.Provisional {
		line("Provisional", "yes: found here before the partner's tree was known")
	}
	if r.Unclean {
		line("Unclean", "yes: found changed after an unclean stop")
	}
	line("Identity", r.Identity)
	must(t.Flush())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Record is that of control.Member.
func (m *member) Record(_ context.Context, req *controlpb.RecordRequest) (*controlpb.RecordReply, error) {
	p, err := m.folders.locate(string(req.Path))
	if err != nil {
		return nil, err
	}
	_, records, err := p.k.running()
	if err != nil {
		return nil, err
	}
	rec, _, ok, err := p.record(records)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, control.Hint(fmt.Errorf("%v has no ID record on this server", p), fmt.Sprintf("`dfs explain %v` tells why", p))
	}
	return &controlpb.RecordReply{Record: reportRecord(p, &rec, records)}, nil
}

func reportRecord(p place, rec *repl.Record, records *store.Folder) *controlpb.IDRecord {
	r := &controlpb.IDRecord{
		ReplicatedFolder: p.k.Name, Path: p.rel, Uid: rec.UID.String(), Gvsn: rec.GVSN.String(), Name: rec.Name,
		Type: rec.Type.String(), Present: rec.Present, NameConflict: rec.NameConflict, Fence: fenceText(rec.Fence),
		CreateTime: replTime(rec.CreateTime), Clock: replTime(rec.Clock), ClockRaw: strconv.FormatInt(int64(rec.Clock), 10),
		Size: rec.Size, Mtime: replTime(rec.Mtime), Target: rec.Target, Metadata: metaText(rec.Meta) + shownText(rec.Shown),
		Presence: rec.Presence.String(), Provisional: rec.Provisional, Unclean: rec.Unclean,
		Identity: identityText(rec), MadeBy: madeBy(rec.GVSN.Originator, records),
	}
	if !rec.Content.IsZero() {
		r.Hash = rec.Content.String()
	}
	if !rec.Parent.IsZero() {
		r.ParentUid = rec.Parent.String()
	}
	if !rec.Heir.IsZero() {
		r.HeirUid = rec.Heir.String()
	}
	for _, h := range rec.History {
		r.History = append(r.History, h.String())
	}
	return r
}

// madeBy says whose an originator is, as far as this member knows.
func madeBy(o version.Originator, records *store.Folder) string {
	s := records.State()
	switch {
	case o == s.Originator:
		return "this server"
	case slices.Contains(s.Past, o):
		return "this server, with an earlier database"
	case o == version.Originator(records.ID()):
		return "every member (the root)"
	}
	return "another server"
}

func fenceText(f repl.Fence) string {
	switch f {
	case repl.Unfenced:
		return "none"
	case repl.FenceInitialSync:
		return "initial sync"
	case repl.FenceInitialBuild:
		return "initial build"
	case repl.FenceDefault:
		return "default"
	}
	return "restored " + time.Unix(0, int64(f)).UTC().Format(time.RFC3339)
}

func metaText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	meta, err := volume.DecodeMeta(b)
	if err != nil {
		return fmt.Sprintf("%d bytes that cannot be read: %v", len(b), err)
	}
	s := fmt.Sprintf("mode %04o, owner %s, group %s", meta.Mode, ownerText(meta.Owner, meta.OwnerName), ownerText(meta.Group, meta.GroupName))
	if meta.NoOwner {
		s = fmt.Sprintf("mode %04o", meta.Mode)
	}
	for _, x := range meta.Xattrs {
		s += fmt.Sprintf(", %s (%d bytes)", x.Name, len(x.Value))
	}
	return s
}

func ownerText(id uint32, name string) string {
	if name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// shownText is what the disk has instead of the metadata on record.
func shownText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return "; carried, this disk has " + metaText(b)
}

// identityText is what this disk has of an object: what tells it from others, and
// the fingerprint by which the next look knows whether it changed.
func identityText(rec *repl.Record) string {
	i, p := rec.Identity, rec.Print
	if i.IsZero() {
		return ""
	}
	s := "handle " + hex.EncodeToString([]byte(i.Handle))
	if i.Birth != 0 {
		s += ", born " + replTime(i.Birth)
	}
	if p == (repl.Print{}) {
		return s
	}
	s += fmt.Sprintf("; seen with %s bytes, mtime %s", thousands(p.Size), replTime(p.Mtime))
	if p.Ctime > 0 {
		return s + ", ctime " + replTime(p.Ctime)
	}
	return s + ", ctime not trusted: the next look compares the metadata"
}
