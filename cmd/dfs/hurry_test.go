package main

import (
	"runtime/debug"
	"testing"
)

// The collector is in no hurry while a folder is in its initial sync, and as before
// when the last one is over.
func TestHurry(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(before)
	percent := func(want int, when string) {
		t.Helper()
		if got := debug.SetGCPercent(want); got != want {
			t.Errorf("%s the collector runs at %d %%, not at %d %%", when, got, want)
		}
	}
	one := hurry()
	percent(gcHurry, "with one folder")
	two := hurry()
	one()
	percent(gcHurry, "with one of two left")
	two()
	percent(gcPercent, "with none left")
	t.Setenv("GOGC", "70")
	debug.SetGCPercent(70)
	over := hurry()
	percent(70, "with GOGC given")
	over()
	percent(70, "with GOGC given, afterwards,")
}
