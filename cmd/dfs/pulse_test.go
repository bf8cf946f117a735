package main

import (
	"testing"
	"time"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// A folder in which nothing happens is looked at until its rates have come down, and
// then once a minute; what it sends, or an owner that is waited for, has it looked at
// again. Once all are Normal it is over that the database was rebuilt.
func TestFoldersAtRestAreLeftAlone(t *testing.T) {
	k := &keeper{due: make(chan struct{}, 1), runner: new(engine.Runner)}
	shut := &keeper{due: make(chan struct{}, 1)}
	f := &folders{find: newFindings(newLog(new(logBuffer), nil)), store: new(store.Store), keepers: map[repl.FolderID]*keeper{{1}: k, {2}: shut}}
	f.find.Raise(finding.StateRebuilt, "", "for the test")
	now := time.Now()
	looks := func(seconds int) (n int) {
		for range seconds {
			now = now.Add(time.Second)
			f.lookAt(now)
			select {
			case <-k.due:
				n++
			case <-shut.due:
				t.Error("a folder that does not run is looked at")
			default:
			}
		}
		return n
	}
	calm, hour := int(folderCalm/time.Second), 3600
	if n := looks(calm); n != calm {
		t.Errorf("%d looks in the first %d seconds", n, calm)
	}
	if n := looks(hour); n < 59 || n > 61 {
		t.Errorf("%d looks in an hour at rest", n)
	}
	k.served.Add(1)
	if n := looks(calm); n != calm {
		t.Errorf("%d looks in the %d seconds after it has sent something", n, calm)
	}
	k.unknown.Store(1)
	if n := looks(100); n != 100 {
		t.Errorf("%d looks in 100 s while an owner is unknown", n)
	}
	if len(f.find.set.List()) != 1 {
		t.Error("the rebuilding is over before all are Normal")
	}
	k.normal.Store(true)
	shut.normal.Store(true)
	looks(1)
	if left := f.find.set.List(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
