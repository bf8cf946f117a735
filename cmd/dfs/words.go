package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"opendfs/internal/control/controlpb"
)

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes bytes for a person, by powers of 1,000.
func size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n)/1000, 0
	for f >= 999.5 && i < 4 {
		f /= 1000
		i++
	}
	unit := [...]string{"kB", "MB", "GB", "TB", "PB"}[i]
	if f < 10 {
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}

// seconds writes a time to go, roughly.
func seconds(s float64) string {
	d := time.Duration(math.Round(s)) * time.Second
	return short(d)
}

// short writes a duration in one or two units.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than a second"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// since is how long ago a time of the API was.
func since(text string, now time.Time) string {
	t, ok := parseTime(text)
	if !ok {
		return "?"
	}
	return short(now.Sub(t))
}

// ago is since as an answer to "when".
func ago(text string, now time.Time) string {
	t, ok := parseTime(text)
	if !ok {
		return "-"
	}
	if d := now.Sub(t); d >= time.Second {
		return short(d) + " ago"
	}
	return "now"
}

// clockTime is a time of the API in this machine's zone, to the second.
func clockTime(text string) string {
	t, ok := parseTime(text)
	if !ok {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// backlogText is a backlog's count and bytes.
func backlogText(b *controlpb.Backlog, state string) string {
	switch {
	case b == nil || state == "waiting" || state == "disabled":
		return "-"
	case b.Updates == 0:
		return "0"
	case b.Bytes < 0:
		return thousands(b.Updates)
	}
	return fmt.Sprintf("%s (%s)", thousands(b.Updates), size(b.Bytes))
}

// rateText is what a folder does at present.
func rateText(f *controlpb.Folder) string {
	text := ""
	add := func(n, bytes float64, what string) {
		if n < 0.05 && bytes < 1 {
			return
		}
		if text != "" {
			text += ", "
		}
		text += what
		if n >= 0.05 {
			text += " " + strconv.FormatFloat(n, 'f', precision(n), 64) + "/s"
		}
		if bytes >= 1 {
			text += " " + size(int64(bytes)) + "/s"
		}
	}
	add(f.InPerSecond, f.InBytesPerSecond, "in")
	add(f.OutPerSecond, f.OutBytesPerSecond, "out")
	return orDash(text)
}

func precision(n float64) int {
	if n < 10 {
		return 1
	}
	return 0
}
