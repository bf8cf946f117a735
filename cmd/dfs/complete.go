package main

import (
	"context"
	"time"

	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// completeTime is what a shell's user waits for.
const completeTime = time.Second

// completing makes a command's completion of object names from the domain that the
// member knows; args are what stands before.
func completing(o *options, names func(d *directory.Domain, args []string) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completeTime)
		defer cancel()
		doc, _, err := present(ctx, o)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(doc.Domain, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// present is the domain as the member knows it, and whether it is changed here.
func present(ctx context.Context, o *options) (*directory.Document, bool, error) {
	r, err := askMember(ctx, o, func(ctx context.Context, m memberAPI) (*controlpb.DomainReply, error) {
		return m.Domain(ctx, &controlpb.DomainRequest{})
	})
	if err != nil {
		return nil, false, err
	}
	keepDomain(o, r.Signed)
	doc, err := directory.Read(r.Document, "domain")
	return doc, r.Master, err
}

// domainObjects are groups, folders and connections.
func domainObjects(d *directory.Domain, args []string) []string {
	if len(args) > 0 {
		return nil
	}
	list := append(groupNames(d), folderNames(d)...)
	for _, g := range d.Groups {
		list = append(list, connectionNames(d, g)...)
	}
	return list
}

func groupNames(d *directory.Domain) []string {
	var list []string
	for _, g := range d.Groups {
		list = append(list, g.Name)
	}
	return list
}

func folderNames(d *directory.Domain) []string {
	var list []string
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			list = append(list, g.Name+"/"+f.Name)
		}
	}
	return list
}

func serverNames(d *directory.Domain) []string {
	var list []string
	for _, s := range d.Servers {
		list = append(list, s.Name)
	}
	return list
}

func membershipNames(d *directory.Domain) []string {
	var list []string
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			for _, m := range f.Members {
				list = append(list, g.Name+"/"+f.Name+"@"+m.Server)
			}
		}
	}
	return list
}

func connectionNames(d *directory.Domain, g *directory.Group) []string {
	var list []string
	for _, c := range d.Connections(g) {
		list = append(list, serverName(d, c.From)+"->"+serverName(d, c.To))
	}
	return list
}
