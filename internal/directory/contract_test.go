package directory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"path/filepath"
	"testing"

	"opendfs/internal/directory"
	"opendfs/internal/directory/directorytest"
)

func TestMemoryIsAStore(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) directorytest.Backend {
		s, err := directory.NewMemory(directorytest.First(t), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return directorytest.Backend{Volatile: true, Open: func(testing.TB, func(string) error) directory.Store { return s }}
	})
}

func TestFileIsAStore(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) directorytest.Backend {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		first := directorytest.First(t)
		o := directory.FileOptions{
			Dir: filepath.Join(t.TempDir(), "state"), Self: first.Domain.ServerByName("hub").ID, Key: key.Public(), Signer: key, Rand: rand.Reader,
		}
		if _, err := directory.CreateFile(o, first); err != nil {
			t.Fatal(err)
		}
		return directorytest.Backend{Open: func(t testing.TB, step func(string) error) directory.Store {
			f, err := directory.OpenFileByStep(o, step)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}}
	})
}
