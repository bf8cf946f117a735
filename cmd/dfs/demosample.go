package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// makeSample fills the first member's folder with a small tree, and the
// second's with a file that only it has: the initial sync keeps that aside.
func makeSample(first, second string) error {
	for _, dir := range []string{first, second} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"README.txt": "This folder is replicated. Change it here or on the other member; it is there in a moment.\n",
	}
	for _, team := range []string{"sales", "engineering", "people"} {
		for n := range 40 {
			name := fmt.Sprintf("%s/%d/note-%02d.txt", team, 2024+n%3, n)
			files[name] = strings.Repeat(fmt.Sprintf("Note %d of %s.\n", n, team), 1+n*7)
		}
	}
	for name, text := range files {
		if err := writeSample(first, name, []byte(text)); err != nil {
			return err
		}
	}
	r := rand.New(rand.NewPCG(1, 2)) // the content does not matter, only that it does not compress
	for n := range 4 {
		b := make([]byte, (n+1)<<20)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if err := writeSample(first, fmt.Sprintf("pictures/picture-%d.raw", n+1), b); err != nil {
			return err
		}
	}
	if err := os.Symlink("sales/2026", filepath.Join(first, "this-year")); err != nil {
		return err
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(first, "README.txt"), old, old); err != nil {
		return err
	}
	return writeSample(second, "only-here.txt", []byte("The other member is primary, so this is kept in .dfsr/preexisting by the initial sync.\n"))
}

func writeSample(root, name string, content []byte) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
