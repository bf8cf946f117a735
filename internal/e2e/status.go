package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// status is the part of `dfs status --json` that stories look at.
type status struct {
	Server     string         `json:"server"`
	PID        int            `json:"pid"`
	Generation uint64         `json:"generation"`
	Folders    []folderStatus `json:"folders"`
	Findings   []finding      `json:"findings"`
}

type folderStatus struct {
	Name           string `json:"name"`
	State          string `json:"state"`
	Reason         string `json:"reason"`
	Journal        string `json:"journal"`
	Files          int64  `json:"files"`
	Directories    int64  `json:"directories"`
	Symlinks       int64  `json:"symlinks"`
	Captured       uint64 `json:"captured"`
	Installed      uint64 `json:"installed"`
	InstalledBytes uint64 `json:"installedBytes"`
	ServedBytes    uint64 `json:"servedBytes"`
	RdcSavedBytes  uint64 `json:"rdcSavedBytes"`
	Conflicts      uint64 `json:"conflicts"`
	Vector         string `json:"vector"`
}

type finding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Object   string `json:"object"`
	Detail   string `json:"detail"`
	Text     string `json:"text"`
	Remedy   string `json:"remedy"`
}

// ask asks the member how it is; the error is the command's.
func (m *member) ask() (status, error) {
	var s status
	out, err := m.dfs("status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// status asks a member that has to answer.
func (m *member) status() status {
	m.t.Helper()
	s, err := m.ask()
	if err != nil {
		m.t.Fatalf("`dfs status --json` on %s: %v", m.name, err)
	}
	return s
}

// folder is the status of the story's folder; its zero value if the member does not have it.
func (m *member) folder() folderStatus {
	m.t.Helper()
	for _, f := range m.status().Folders {
		if f.Name == folder {
			return f
		}
	}
	return folderStatus{}
}

// normal waits until the member's folder is Normal.
func (m *member) normal(limit time.Duration) {
	m.t.Helper()
	eventually(m.t, limit, m.name+" is normal", func() bool { return m.folder().State == "normal" })
}

// finds waits for a finding with that code and gives it.
func (m *member) finds(code string, limit time.Duration) finding {
	m.t.Helper()
	var found finding
	ok := within(limit, func() bool {
		list := m.status().Findings
		i := slices.IndexFunc(list, func(f finding) bool { return f.Code == code })
		if i >= 0 {
			found = list[i]
		}
		return i >= 0
	})
	if !ok {
		out, _ := m.dfs("status")
		m.t.Fatalf("%s does not raise %s within %v:\n%s", m.name, code, limit, out)
	}
	if found.Severity == "" || found.Text == "" || found.Remedy == "" {
		m.t.Errorf("finding %s lacks severity, text or remedy: %+v", code, found)
	}
	return found
}

// findings with that code, now.
func (m *member) findings(code string) []finding {
	m.t.Helper()
	return slices.DeleteFunc(m.status().Findings, func(f finding) bool { return f.Code != code })
}

// clears waits until no finding with that code stands.
func (m *member) clears(code string, limit time.Duration) {
	m.t.Helper()
	eventually(m.t, limit, m.name+" clears "+code, func() bool {
		return !slices.ContainsFunc(m.status().Findings, func(f finding) bool { return f.Code == code })
	})
}

// vectors of all members, to compare among them and before and after.
func (c *cluster) vectors() []string {
	c.t.Helper()
	var out []string
	for _, m := range c.members {
		out = append(out, m.folder().Vector)
	}
	return out
}

// equalVectors checks that every member knows what every other knows.
func (c *cluster) equalVectors() {
	c.t.Helper()
	all := c.vectors()
	if all[0] == "" {
		c.t.Errorf("`dfs status --json` on %s gives no vector", c.members[0].name)
	}
	for i, v := range all[1:] {
		if v != all[0] {
			c.t.Errorf("vectors differ: %s has %s, %s has %s", c.members[0].name, all[0], c.members[i+1].name, v)
		}
	}
}

// calm checks that no member has findings but those whose codes are expected.
func (c *cluster) calm(expected ...string) {
	c.t.Helper()
	for _, m := range c.members {
		for _, f := range m.status().Findings {
			if !slices.Contains(expected, f.Code) {
				c.t.Errorf("%s has the finding %s: %s (%s)", m.name, f.Code, strings.TrimSpace(f.Text+" "+f.Detail), f.Object)
			}
		}
	}
}
