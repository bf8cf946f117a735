package main

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/schedule"

	"github.com/spf13/cobra"
)

// serverView is a server as --json shows it.
type serverView struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"`
	Addresses []string `json:"addresses"`
	Listen    []string `json:"listen"`
	MaxRate   string   `json:"maxRate"`  // empty: no limit
	LogLevel  string   `json:"logLevel"` // empty: what it was started with
	In        uint64   `json:"transfersIn"`
	Out       uint64   `json:"transfersOut"`
	ClockSkew string   `json:"clockSkew"`
	Folders   []string `json:"folders"` // GROUP/FOLDER that it is a member of
}

func viewServer(d *directory.Domain, s *directory.Server) serverView {
	v := serverView{Name: s.Name, ID: s.ID.String(), Addresses: orEmpty(s.Addresses), Listen: orEmpty(s.Listen), Folders: []string{}, LogLevel: s.LogLevel.String(), In: s.TransfersIn, Out: s.TransfersOut, ClockSkew: directory.FormatDuration(s.MaxSkew())}
	if s.MaxRate != 0 {
		v.MaxRate = s.MaxRate.String()
	}
	for _, m := range d.Memberships(s.ID) {
		v.Folders = append(v.Folders, m.Name())
	}
	return v
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func serverCommand(o *options) *cobra.Command {
	return noun(o, "server", "the machines of the domain: list, show, set, remove, revoke",
		viewer{use: "list", short: "list the servers", example: "  dfs server list", args: none, show: listServers},
		viewer{use: "show SERVER", short: "show one server", example: "  dfs server show branch", args: one("SERVER"), complete: first(serverNames), show: showServer},
		inviter{},
		setServer(),
		editor{use: "remove SERVER", short: "take a server and its memberships out of the domain", long: `
Takes a server with all its memberships and connections out of the domain. Its
identity is of no use from then on; what is on its disks stays there.`,
			example: "  dfs server remove branch", args: one("SERVER"), complete: first(serverNames), change: removeServer},
		editor{use: "revoke SERVER", short: "shut a server's identity out, and keep its memberships", long: `
Withdraws the identity of a server, for a machine that is lost or stolen: every
server that can be reached shuts it out within seconds, any other before it serves
it the next byte. Its memberships stay for the machine that takes its place:

  dfs invite SERVER`,
			example: "  dfs server revoke branch", args: one("SERVER"), complete: first(serverNames), change: revokeServer})
}

// inviter stands where the other nouns have a command that makes one.
type inviter struct{}

func (inviter) command(*options) *cobra.Command {
	return &cobra.Command{
		Use: "add SERVER", Aliases: []string{"create"}, Hidden: true, Args: cobra.ArbitraryArgs,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(c *cobra.Command, args []string) error {
			name := "SERVER"
			if len(args) > 0 {
				name = args[0]
			}
			return control.Hint(usageError("%s: a server comes into the domain by an invitation", c.CommandPath()), fmt.Sprintf("dfs invite %s, and on it: dfs join TOKEN --address HOST:PORT", name))
		},
	}
}

func listServers(d *directory.Domain, _ []string) (view, error) {
	list := []serverView{}
	v := view{header: []string{"SERVER", "ADDRESS", "MAX RATE", "FOLDERS"}}
	for _, s := range d.Servers {
		sv := viewServer(d, s)
		list = append(list, sv)
		v.rows = append(v.rows, []string{s.Name, orDash(strings.Join(s.Addresses, ", ")), orDash(sv.MaxRate), orDash(strings.Join(sv.Folders, ", "))})
	}
	v.value = list
	return v, nil
}

func showServer(d *directory.Domain, args []string) (view, error) {
	s, err := findServer(d, args[0])
	if err != nil {
		return view{}, err
	}
	sv := viewServer(d, s)
	return view{value: sv, rows: [][]string{
		{"Server", sv.Name}, {"Id", sv.ID}, {"Address", orDash(strings.Join(sv.Addresses, ", "))},
		{"Listens on", strings.Join(s.ListenAddresses(), ", ")}, {"Max rate", orDash(sv.MaxRate)},
		{"Transfers", fmt.Sprintf("%d in, %d out", sv.In, sv.Out)}, {"Log level", orDash(sv.LogLevel)}, {"Clock skew", sv.ClockSkew}, {"Folders", orDash(strings.Join(sv.Folders, ", "))},
	}}, nil
}

func setServer() editor {
	var name, maxRate, logLevel, skew string
	var address, listen []string
	var in, out uint64
	return editor{
		use: "set SERVER", short: "change a server's name, addresses, rates, limits or log level", long: `
Changes what the domain says of one server. Its member follows at once, without a
restart: it listens elsewhere, sends slower, logs more.`,
		example: "  dfs server set branch --max-rate 100mbps --transfers-in 4\n  dfs server set branch --address branch.example:7440\n  dfs server set branch --log-level debug", args: one("SERVER"), complete: first(serverNames),
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&name, "name", "", "another name; it keeps its identity")
			c.Flags().StringSliceVar(&address, "address", nil, "where partners reach it, tried in order")
			c.Flags().StringSliceVar(&listen, "listen", nil, "where it listens; empty for the port of its first address")
			c.Flags().Uint64Var(&in, "transfers-in", 0, "how many contents come in at once (16)")
			c.Flags().Uint64Var(&out, "transfers-out", 0, "how many contents go out at once (16)")
			c.Flags().StringVar(&logLevel, "log-level", "", "debug, info, warn, error, or default for what it was started with")
			c.Flags().StringVar(&skew, "clock-skew", "", "by how much its clock may differ from a partner's: 5m")
			c.Flags().StringVar(&maxRate, "max-rate", "", "the most that it sends, and that it is sent: 100mbps, or full")
		},
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			s, err := findServer(d, args[0])
			if err != nil {
				return err
			}
			if err := named(c); err != nil {
				return err
			}
			given := c.Flags().Changed
			if !given("address") {
				address = s.Addresses
			}
			if !given("listen") {
				listen = s.Listen
			}
			if given("address") || given("listen") {
				listen = slices.DeleteFunc(slices.Clone(listen), func(s string) bool { return s == "" })
				if s.Addresses, s.Listen, err = parseAddresses(address, listen); err != nil {
					return err
				}
			}
			if given("max-rate") {
				if s.MaxRate, err = parseMaxRate(maxRate); err != nil {
					return err
				}
			}
			if given("log-level") {
				if s.LogLevel, err = directory.ParseLogLevel(logLevel); err != nil {
					return usageError("--log-level: %v", err)
				}
			}
			if given("clock-skew") {
				if s.ClockSkew, err = directory.ParseDuration(skew); err != nil || s.ClockSkew < time.Second || s.ClockSkew > 24*time.Hour {
					return usageError("--clock-skew %q: give a time from 1s to 1d, as 5m", skew)
				}
			}
			if err := setTransfers(c, s, in, out); err != nil {
				return err
			}
			if given("name") {
				return renameServer(d, s, name)
			}
			return nil
		},
	}
}

// setTransfers sets the limits that are given.
func setTransfers(c *cobra.Command, s *directory.Server, in, out uint64) error {
	for _, limit := range []struct {
		flag string
		n    uint64
		to   *uint64
	}{{"transfers-in", in, &s.TransfersIn}, {"transfers-out", out, &s.TransfersOut}} {
		switch {
		case !c.Flags().Changed(limit.flag):
		case limit.n == 0:
			return usageError("--%s 0: write 1 to 256, 16 is the default; `dfs membership set GROUP/FOLDER@%s --enabled=false` stops a folder there", limit.flag, s.Name)
		default:
			*limit.to = limit.n
		}
	}
	return nil
}

func parseMaxRate(text string) (schedule.Rate, error) {
	r, err := schedule.ParseRate(text)
	switch {
	case err != nil:
		return 0, usageError("--max-rate: %v", err)
	case r == schedule.Closed:
		return 0, usageError("--max-rate closed: disable the server's memberships instead")
	case r == schedule.Full:
		return 0, nil
	}
	return r, nil
}

func removeServer(_ *cobra.Command, d *directory.Domain, args []string) error {
	s, err := findServer(d, args[0])
	if err != nil {
		return err
	}
	for _, g := range d.Groups {
		if err := leaveGroup(g, s.Name); err != nil {
			return err
		}
		for _, f := range g.Folders {
			f.Members = slices.DeleteFunc(f.Members, func(m *directory.Membership) bool { return m.Server == s.Name })
		}
	}
	d.Servers = slices.DeleteFunc(d.Servers, func(o *directory.Server) bool { return o == s })
	forget(d, directory.Principal{Kind: directory.PrincipalServer, Name: s.Name})
	return nil
}

// revokeServer gives the server another id: the old one is of nobody, and whoever
// shows it is shut out.
func revokeServer(_ *cobra.Command, d *directory.Domain, args []string) error {
	s, err := findServer(d, args[0])
	if err != nil {
		return err
	}
	id, err := directory.NewUUID(rand.Reader)
	if err != nil {
		return err
	}
	s.ID, s.Addresses, s.Listen = id, nil, nil
	return nil
}
