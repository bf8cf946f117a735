package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command tells what it does and gives an example; what changes the domain can
// be tried before.
func TestEveryCommandIsExplained(t *testing.T) {
	changes := []string{"add", "create", "set", "remove", "revoke", "grant", "ungrant", "apply", "move", "import"}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() || c.Hidden || c.Name() == "help" {
			return
		}
		if c.Short == "" || !strings.Contains(c.Example, "dfs ") {
			t.Errorf("%s: says %q, its example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, verb := range changes {
			of := c.Parent().Name()
			if c.Name() == verb && of != "admin" && of != "ca" && c.Flags().Lookup("dry-run") == nil {
				t.Errorf("%s has no --dry-run", c.CommandPath())
			}
			if c.Name() == verb && of != "ca" && c.Flags().Lookup("json") == nil {
				t.Errorf("%s has no --json", c.CommandPath())
			}
		}
		if (c.Name() == "list" || c.Name() == "show") && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	}
	walk(rootCommand())
}

// What people type first is understood, or answered by what to type instead.
func TestWordsThatPeopleTry(t *testing.T) {
	hub := initialised(t)
	hub.serve()
	hub.refused(exitUsage, "dfs invite branch", "server", "add", "branch")
	hub.refused(exitUsage, "dfs invite branch", "server", "create", "branch", "--address", "h:7440")
	hub.must("group", "add", "projects", "--topology", "connections")
	hub.must("folder", "add", "projects/docs")
	hub.must("membership", "add", "projects/docs@hub", "--path", hub.folder)
	hub.refused(exitUsage, "--enabled=false", "membership", "set", "projects/docs@hub", "--enabled", "no")
	hub.refused(exitUsage, "--enabled=false", "connection", "set", "projects", "hub->hub", "--enabled", "off")

	var reply struct {
		Changes    []string
		Generation int
	}
	file := filepath.Join(hub.state, "domain.yaml")
	out := hub.must("apply", "-f", file, "--json")
	if err := json.Unmarshal([]byte(out), &reply); err != nil || reply.Changes == nil || len(reply.Changes) != 0 || reply.Generation == 0 {
		t.Errorf("apply --json: %v\n%s", err, out)
	}
}

// The server at which the domain is changed cannot shut itself out.
func TestTheMasterStaysIn(t *testing.T) {
	hub, branch := pair(t)
	for _, verb := range []string{"revoke", "remove"} {
		hub.refused(exitFailed, "dfs directory promote", "server", verb, "hub")
		hub.refused(exitFailed, "would shut itself out", "server", verb, "hub", "--dry-run")
	}
	hub.write("plan", "first")
	settled(hub, branch)
}
