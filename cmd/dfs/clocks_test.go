package main

import (
	"encoding/json"
	"testing"
	"time"

	"opendfs/internal/repl"
)

// What is minted is stamped by the partners' clocks while this server's runs ahead
// of all of them, and only by more than it may.
func TestMintByPartnersClocks(t *testing.T) {
	c := &clocks{}
	c.limit.Store(int64(5 * time.Minute))
	behind := func() time.Duration { return time.Duration(now() - c.mint()).Round(time.Minute) }
	if d := behind(); d != 0 {
		t.Errorf("without partners it is %v behind", d)
	}
	c.note(repl.MemberID{1}, -time.Hour)
	if d := behind(); d != time.Hour {
		t.Errorf("an hour ahead it is stamped %v back", d)
	}
	c.note(repl.MemberID{2}, -20*time.Minute)
	if d := behind(); d != 20*time.Minute {
		t.Errorf("ahead of both it is stamped %v back", d)
	}
	c.note(repl.MemberID{2}, -4*time.Minute)
	if d := behind(); d != 0 {
		t.Errorf("within what it may it is stamped %v back", d)
	}
	c.note(repl.MemberID{2}, time.Hour)
	if d := behind(); d != 0 {
		t.Errorf("between two partners it is stamped %v back", d)
	}
}

func TestClockSkewIsASetting(t *testing.T) {
	hub := initialised(t)
	hub.refused(exitUsage, "give a time from 1s to 1d", "server", "set", "hub", "--clock-skew", "2d")
	hub.must("server", "set", "hub", "--clock-skew", "2m")
	var v struct{ ClockSkew string }
	if err := json.Unmarshal([]byte(hub.must("server", "show", "hub", "--json")), &v); err != nil {
		t.Fatal(err)
	}
	if v.ClockSkew != "2m" {
		t.Errorf("clock skew %q", v.ClockSkew)
	}
}
