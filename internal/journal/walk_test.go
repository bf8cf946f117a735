package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWalkGivesGaps(t *testing.T) {
	j := open(t, t.TempDir(), Options{Only: Walk, WalkEvery: time.Millisecond})
	for token := uint64(2); token < 5; token++ {
		b, err := j.Next(deadline(t))
		must(t, err)
		if b.Gap == nil || !b.Gap.Planned || b.Token != token {
			t.Errorf("%+v, want a planned Gap with token %d", b, token)
		}
	}
}

func TestWalkDrainsByAGap(t *testing.T) {
	j := open(t, t.TempDir(), Options{Only: Walk, WalkEvery: time.Hour})
	if j.Kind() != Walk || j.Reason() == "" {
		t.Errorf("kind %v, reason %q", j.Kind(), j.Reason())
	}
	token, err := j.Drain(deadline(t))
	must(t, err)
	b, err := j.Next(deadline(t))
	must(t, err)
	if b.Gap == nil || b.Token != token {
		t.Errorf("Drain said %d, then came %+v", token, b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := j.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
	must(t, j.Close())
	if _, err := j.Next(deadline(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %v", err)
	}
	if _, err := j.Drain(deadline(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("Drain: %v", err)
	}
}

func TestOpenNeedsAPreparedFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(deadline(t), dir, Options{}); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "adopt") {
		t.Errorf("without .dfsr: %v", err)
	}
	if _, err := Open(deadline(t), filepath.Join(dir, "none"), Options{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without root: %v", err)
	}
}

func TestReadOnlyFilesystemIsWalked(t *testing.T) {
	fs := tmpfs(t)
	root := folder(t, filepath.Join(fs, "tree"))
	must(t, unix.Mount("", fs, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	j := open(t, root, Options{})
	if j.Kind() != Walk || !strings.Contains(j.Reason(), "read-only") {
		t.Errorf("kind %v, reason %q", j.Kind(), j.Reason())
	}
}

// The set is merged and bounded, whatever fills it.
func TestNamesMergeAndOverflow(t *testing.T) {
	n := newNames(3)
	if b, err := n.Next(deadline(t)); err != nil || b.Gap == nil {
		t.Fatalf("%+v, %v", b, err)
	}
	put := func(dir, name string, d Dirty) { d.Path = dir; n.put(dir, d, []byte(name), []byte("child-"+name)) }
	put(".", "a", Dirty{})
	put("d", "a", Dirty{Tree: true})
	put(".", "a", Dirty{Wrote: true})
	put(".", "b", Dirty{})
	put(".", "b", Dirty{})
	b, err := n.Next(deadline(t))
	must(t, err)
	want(t, b.Dirty, "./a wrote", "./b", "d/a tree")
	if len(b.Dirty) != 3 || string(b.Dirty[0].Child) != "child-a" {
		t.Errorf("%+v", b.Dirty)
	}
	for i := range 5 {
		put(".", fmt.Sprint(i), Dirty{})
	}
	b, err = n.Next(deadline(t))
	must(t, err)
	if b.Gap == nil || b.Gap.Planned || len(b.Dirty) != 0 || b.Token != 3 {
		t.Errorf("%+v, want a Gap with token 3", b)
	}
	put(".", "later", Dirty{})
	b, err = n.Next(deadline(t))
	must(t, err)
	want(t, b.Dirty, "./later")
}
