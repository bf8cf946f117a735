package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// sourceArchive is where Debian's package linux-source-6.1 puts the tree that people compare file tools on.
const sourceArchive = "/usr/src/linux-source-6.1.tar.xz"

// sourceTree is that tree unpacked, about 78,600 files and 1.3 GB; it is unpacked once and kept.
func sourceTree(t testing.TB) string {
	t.Helper()
	cache := cacheDir(t)
	tree, done := filepath.Join(cache, "linux-source-6.1"), filepath.Join(cache, "linux-source-6.1.done")
	if _, err := os.Stat(done); err == nil {
		return tree
	}
	if _, err := os.Stat(sourceArchive); err != nil && os.Geteuid() == 0 {
		_, _ = try("apt-get", "install", "-y", "-qq", "--no-install-recommends", "linux-source-6.1")
	}
	if _, err := os.Stat(sourceArchive); err != nil {
		t.Skip("SKIPPED: needs the source tree; apt-get install linux-source-6.1")
	}
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	must(t, "tar", "xJf", sourceArchive, "-C", cache)
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return tree
}

// copyTree copies the content of a tree into root and warms the cache on the way.
func copyTree(t testing.TB, from, root string) {
	t.Helper()
	must(t, "cp", "-a", from+"/.", root)
}

// fill describes a synthetic tree.
type fill struct {
	files  int
	perDir int
	bytes  int // the mean size of a file
	seed   uint64
}

// make writes the tree below root: files of random sizes with random content, two levels of directories, a link and odd names
// among them.
func (f fill) make(t testing.TB, root string) {
	t.Helper()
	dirs := max((f.files+f.perDir-1)/f.perDir, 1)
	var wg sync.WaitGroup
	errs := make([]error, runtime.NumCPU())
	for w := range errs {
		wg.Go(func() {
			for d := w; d < dirs && errs[w] == nil; d += len(errs) {
				errs[w] = f.directory(root, d, min(f.perDir, f.files-d*f.perDir))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (f fill) directory(root string, number, files int) error {
	dir := filepath.Join(root, fmt.Sprintf("section-%02d", number%100), fmt.Sprintf("part-%04d", number))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(f.seed, uint64(number)))
	buf := make([]byte, 2*f.bytes+1)
	for i := range files {
		n := rng.IntN(2*f.bytes + 1)
		scribble(rng, buf[:n])
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("document-%07d.txt", number*f.perDir+i)), buf[:n], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// scribble fills b with content that does not repeat.
func scribble(rng *rand.Rand, b []byte) {
	for i := 0; i < len(b); i += 8 {
		v := rng.Uint64()
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
}

// garnish adds what a plain tree does not have: links, an empty directory, odd names, modes, owners, an old file, an empty one.
func garnish(t testing.TB, root string) {
	t.Helper()
	odd := filepath.Join(root, "odd")
	long := strings.Repeat("långt ", 36)[:252]
	steps := []error{
		os.MkdirAll(filepath.Join(odd, "empty directory"), 0o750),
		os.WriteFile(filepath.Join(odd, "empty"), nil, 0o600),
		os.WriteFile(filepath.Join(odd, "a name\nwith a line"), []byte("1"), 0o644),
		os.WriteFile(filepath.Join(odd, "not utf-8 \xff\xfe"), []byte("2"), 0o644),
		os.WriteFile(filepath.Join(odd, " leading and trailing "), []byte("3"), 0o644),
		os.WriteFile(filepath.Join(odd, "-rf"), []byte("4"), 0o755),
		os.WriteFile(filepath.Join(odd, long), []byte("5"), 0o644),
		os.WriteFile(filepath.Join(odd, "setuid"), []byte("6"), 0o644),
		os.Chmod(filepath.Join(odd, "setuid"), 0o755|os.ModeSetuid),
		os.WriteFile(filepath.Join(odd, "sparse"), nil, 0o644),
		os.Truncate(filepath.Join(odd, "sparse"), 3*mib),
		os.Symlink("../section-00", filepath.Join(odd, "link to a directory")),
		os.Symlink("nothing/there", filepath.Join(odd, "dangling")),
		os.Symlink("/etc/hostname", filepath.Join(odd, "absolute")),
		os.WriteFile(filepath.Join(odd, "old"), []byte("7"), 0o644),
		os.Chtimes(filepath.Join(odd, "old"), time.Time{}, time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)),
	}
	if os.Geteuid() == 0 {
		steps = append(steps,
			os.Lchown(filepath.Join(odd, "empty"), 1234, 5678),
			os.Lchown(filepath.Join(odd, "dangling"), 1, 2),
			os.Chown(filepath.Join(odd, "empty directory"), 33, 33))
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("garnish, step %d: %v", i, err)
		}
	}
}

// random is a generator that two runs share.
func random(seed uint64, what string) *rand.Rand {
	for _, b := range []byte(what) {
		seed = seed*131 + uint64(b)
	}
	return rand.New(rand.NewPCG(seed, 0))
}
