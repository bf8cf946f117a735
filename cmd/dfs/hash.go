package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"opendfs/internal/capture"
	"opendfs/internal/repl"
	"opendfs/internal/volume"

	"github.com/spf13/cobra"
)

func hashCommand(o *options) *cobra.Command {
	var recursive bool
	var check string
	c := &cobra.Command{
		Use:   "hash PATH...",
		Short: "print the hashes of files, or compare them with another server's",
		Long: strings.TrimSpace(`
Prints for each file the hashes that replication compares: of the whole record
(content, metadata and modification time), of the content, of the metadata
(mode, owner, ACLs, extended attributes, streams), then the path. With -r a
directory is followed by all that lies in it, by paths beneath it. It needs no
running member and works on any path; .dfsr is left out, and so is another
replicated folder that lies in the directory.

--check FILE compares with what the command printed on another server and says
of each difference what it is: data, mode, owner, group, ACL, NT ACL, stream,
attribute, time, or a file that only one side has. Exit status 0: the same;
3: they differ.`),
		Example: "  dfs hash -r /srv/docs > hub.hashes             on one server\n" +
			"  dfs hash -r /data/docs --check hub.hashes      on the other",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("%s wants at least one PATH; usage: %s", c.CommandPath(), c.UseLine())
			}
			return nil
		},
		RunE: does(func(c *cobra.Command, args []string) error {
			h := &hashing{ctx: c.Context(), recursive: recursive, several: len(args) > 1}
			if check != "" {
				return h.compare(args, check, c.OutOrStdout(), o.json)
			}
			return h.print(args, c.OutOrStdout(), o.json)
		}),
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "directories with all that lies in them")
	c.Flags().StringVar(&check, "check", "", "compare with the output of another server in this `FILE`, - for standard input")
	return c
}

// hashed is one object as the command prints it.
type hashed struct {
	Path     string            `json:"path"`
	Type     string            `json:"type"`
	Record   string            `json:"record"`
	Content  string            `json:"content,omitempty"`
	Metadata string            `json:"metadata"`
	Size     int64             `json:"size"`
	Mtime    string            `json:"mtime"`
	Parts    map[string]string `json:"parts"` // of the metadata, by name; values that are long as hashes
}

// hashing is one run of the command.
type hashing struct {
	ctx       context.Context
	recursive bool
	several   bool // more than one PATH: they stand before what lies in them
	failed    int
	first     error
}

// waiting is an object whose hashes are being made.
type waiting struct {
	done chan struct{}
	hashed
	err error
}

// walk hands the objects of every path to emit, in order.
func (h *hashing) walk(paths []string, emit func(*hashed) error) error {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	queue := make(chan *waiting, 64)
	var walked error
	go func() {
		defer close(queue)
		w := walker{ctx: ctx, queue: queue, busy: make(chan struct{}, runtime.GOMAXPROCS(0)), recursive: h.recursive}
		for _, path := range paths {
			if walked = w.start(path, h.several); walked != nil {
				break
			}
		}
		w.work.Wait()
	}()
	var err error
	for w := range queue {
		<-w.done
		if w.err != nil {
			h.failed++
			if h.first == nil {
				h.first = w.err
			}
			continue
		}
		if err == nil {
			if err = emit(&w.hashed); err != nil {
				cancel() // nobody reads what follows
			}
		}
	}
	return errors.Join(err, walked, h.ctx.Err())
}

// trouble is what could not be read, as one error.
func (h *hashing) trouble() error {
	if h.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of the files could not be hashed; the first: %w", h.failed, h.first)
}

// walker reads a tree and hashes beside its reading.
type walker struct {
	ctx       context.Context
	queue     chan<- *waiting
	busy      chan struct{} // a token for each object that is hashed
	work      sync.WaitGroup
	recursive bool
}

// start hashes what a path leads to.
func (w *walker) start(path string, named bool) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("hash %s: %w", path, err)
	}
	info, err := os.Lstat(abs)
	if err != nil {
		return fmt.Errorf("hash %s: %w", path, err)
	}
	shown := ""
	if named {
		shown = filepath.ToSlash(filepath.Clean(path))
	}
	at, name := abs, ""
	if !info.IsDir() {
		at, name = filepath.Split(abs)
		if shown == "" {
			shown = name
		}
	}
	v, err := volume.Open(at, volume.Options{ReadOnly: true, AnyLink: true})
	if err != nil {
		return fmt.Errorf("hash %s: %w", path, err)
	}
	root, err := v.Root()
	if err != nil {
		return errors.Join(fmt.Errorf("hash %s: %w", path, err), v.Close())
	}
	var all sync.WaitGroup
	if name != "" {
		w.object(root, &all, name, shown)
	} else {
		err = w.directory(root, &all, shown)
	}
	all.Wait()
	return errors.Join(err, root.Close(), v.Close())
}

// directory hashes an open directory, and with recursive what lies in it. all
// counts the work that needs d.
func (w *walker) directory(d volume.Dir, all *sync.WaitGroup, shown string) error {
	w.do(all, orDot(shown), func(h *hashed) error { return hashOwn(d, h) })
	if !w.recursive {
		return nil
	}
	var names []string
	types := make(map[string]repl.Type)
	err := d.List(func(e volume.Entry) error {
		if e.Name != privateArea {
			names = append(names, e.Name)
			types[e.Name] = e.Type
		}
		return w.ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("hash %s: %w", orDot(shown), err)
	}
	slices.Sort(names)
	for _, name := range names {
		path := name
		if shown != "" {
			path = shown + "/" + name
		}
		if err := w.entry(d, all, name, path, types[name]); err != nil {
			return err
		}
	}
	return nil
}

// privateArea is where a replicated folder keeps what does not replicate.
const privateArea = ".dfsr"

func (w *walker) entry(d volume.Dir, all *sync.WaitGroup, name, path string, kind repl.Type) error {
	sub, err := d.OpenDir(name)
	switch {
	case kind == repl.Directory || err == nil:
	case errors.Is(err, volume.ErrNotDir):
		w.object(d, all, name, path)
		return nil
	}
	if err != nil { // unreadable, a mount point, gone: said of this one
		w.do(all, path, func(*hashed) error { return fmt.Errorf("hash %s: %w", path, err) })
		return nil
	}
	if st, err := sub.Lookup(privateArea); err == nil && st.Type == repl.Directory {
		return sub.Close() // another replicated folder
	}
	var below sync.WaitGroup
	err = w.directory(sub, &below, path)
	below.Wait()
	return errors.Join(err, sub.Close())
}

// object hashes a file or link of d; what does not replicate is left out.
func (w *walker) object(d volume.Dir, all *sync.WaitGroup, name, path string) {
	st, err := d.Lookup(name)
	if err == nil && st.Type == repl.Other {
		return
	}
	w.do(all, path, func(h *hashed) error {
		if err != nil {
			return err
		}
		return hashEntry(w.ctx, d, name, &st, h)
	})
}

// do has an object hashed, and stands it into the queue.
func (w *walker) do(all *sync.WaitGroup, path string, fn func(*hashed) error) {
	x := &waiting{done: make(chan struct{})}
	x.Path = shownPath(path)
	w.busy <- struct{}{}
	w.queue <- x
	all.Add(1)
	w.work.Go(func() {
		if err := fn(&x.hashed); err != nil {
			x.err = fmt.Errorf("hash %s: %w", x.Path, err)
		}
		close(x.done)
		<-w.busy
		all.Done()
	})
}

// hashEntry hashes a file or link. It says so if it changes meanwhile.
func hashEntry(ctx context.Context, d volume.Dir, name string, st *volume.Stat, h *hashed) error {
	var sum repl.Hash
	var meta []byte
	if st.Type == repl.Symlink {
		target, err := d.ReadLink(name)
		if err != nil {
			return err
		}
		sum = capture.HashTarget(target)
		if meta, err = d.Meta(name); err != nil {
			return err
		}
		st.Print.Size = int64(len(target))
		return h.fill(st, sum, meta)
	}
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	whole := false
	before, err := f.Stat()
	if err == nil {
		sum, whole, err = capture.Hash(ctx, f, &before)
	}
	if err == nil {
		meta, err = f.Meta()
	}
	var after volume.Stat
	if err == nil {
		after, err = f.Stat()
	}
	if err == nil && (!whole || after.Print != before.Print) {
		err = errors.New("it changed while it was read")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return h.fill(&before, sum, meta)
}

// hashOwn hashes a directory itself.
func hashOwn(d volume.Dir, h *hashed) error {
	st, err := d.Stat()
	if err != nil {
		return err
	}
	meta, err := d.OwnMeta()
	if err != nil {
		return err
	}
	st.Print.Size = 0
	return h.fill(&st, repl.Hash{}, meta)
}

func (h *hashed) fill(st *volume.Stat, content repl.Hash, meta []byte) error {
	h.Type, h.Size = st.Type.String(), st.Print.Size
	h.Mtime = time.Unix(0, int64(st.Print.Mtime)).UTC().Format(time.RFC3339Nano)
	h.Metadata = capture.HashTarget(string(meta)).String()
	if !content.IsZero() {
		h.Content = content.String()
	}
	h.Record = capture.HashTarget(strings.Join([]string{h.Type, h.Content, h.Metadata, h.Mtime}, "\n")).String()
	var err error
	h.Parts, err = metaParts(meta)
	return err
}

// print writes every object as a line.
func (h *hashing) print(paths []string, out io.Writer, asJSON bool) error {
	w := newHashWriter(out, asJSON)
	err := h.walk(paths, w.write)
	return errors.Join(err, w.flush(), h.trouble())
}
