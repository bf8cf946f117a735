package main

import (
	"slices"
	"strings"

	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// connectionFlags are what `dfs connection set` changes.
type connectionFlags struct {
	enabled, rdc, crossFile bool
	minSize, compression    string
}

func (f *connectionFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.enabled, "enabled", true, "whether it replicates; of a listed connection")
	c.Flags().BoolVar(&f.rdc, "rdc", true, "whether only what differs of a changed file travels")
	c.Flags().BoolVar(&f.crossFile, "cross-file", true, "whether a new file is put together from files like it")
	c.Flags().StringVar(&f.minSize, "rdc-min-size", "", "size of a file from which on that is done: 64KiB")
	c.Flags().StringVar(&f.compression, "compression", "", "auto (while it is faster), on or off")
}

// transfer changes t as the flags say, and reports whether one of them was given.
func (f *connectionFlags) transfer(c *cobra.Command, t *directory.Transfer) (given bool, err error) {
	for flag, set := range map[string]func() error{
		"rdc":        func() error { t.RDC = f.rdc; return nil },
		"cross-file": func() error { t.CrossFile = f.crossFile; return nil },
		"rdc-min-size": func() (err error) {
			t.MinSize, err = directory.ParseSize(f.minSize)
			return err
		},
		"compression": func() (err error) {
			t.Compression, err = directory.ParseCompression(f.compression)
			return err
		},
	} {
		if !c.Flags().Changed(flag) {
			continue
		}
		given = true
		if err := set(); err != nil {
			return true, badSetting(flag, err)
		}
	}
	return given, nil
}

func setConnection(pair func(*directory.Domain, []string) []string) editor {
	f := &connectionFlags{}
	return editor{
		use: "set GROUP FROM->TO", short: "change a connection: on or off, and how it brings contents",
		example: "  dfs connection set projects 'hub->branch' --enabled=false\n  dfs connection set projects 'hub->branch' --compression off --rdc-min-size 1MiB",
		args:    wants(2, 2, "GROUP and FROM->TO"), complete: pair, flags: f.add,
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			if err := named(c); err != nil {
				return err
			}
			if c.Flags().Changed("enabled") {
				if err := withLink(d, args, func(g *directory.Group, i int) error {
					g.Topology.Links[i].Enabled = f.enabled
					return nil
				}); err != nil {
					return err
				}
			}
			return f.setTransfer(c, d, args)
		},
	}
}

// setTransfer changes how a connection brings contents. One that is as the default
// is not written down.
func (f *connectionFlags) setTransfer(c *cobra.Command, d *directory.Domain, args []string) error {
	g, err := findGroup(d, args[0])
	if err != nil {
		return err
	}
	from, to, _ := strings.Cut(args[1], "->")
	t := g.TransferOf(from, to)
	given, err := f.transfer(c, &t)
	if err != nil || !given {
		return err
	}
	if !slices.Contains(connectionNames(d, g), args[1]) {
		return unknown("connection", args[1], connectionNames(d, g))
	}
	g.Transfers = slices.DeleteFunc(g.Transfers, func(e directory.TransferException) bool { return e.From == from && e.To == to })
	if t != directory.DefaultTransfer() {
		g.Transfers = append(g.Transfers, directory.TransferException{From: from, To: to, Transfer: t})
	}
	return nil
}
