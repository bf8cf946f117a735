package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// folderView is a replicated folder as --json shows it.
type folderView struct {
	Name              string   `json:"name"` // GROUP/FOLDER
	ID                string   `json:"id"`
	Files             []string `json:"fileFilters"`
	Directories       []string `json:"directoryFilters"`
	Case              string   `json:"case"`
	DirectoryConflict string   `json:"directoryConflict"`
	Breaker           string   `json:"breaker"`
	Owners            string   `json:"owners"`
	Attributes        []string `json:"attributes"`
	Rest              string   `json:"rest"`
	CaptureBusy       string   `json:"captureBusy"`
	TombstoneLifetime string   `json:"tombstoneLifetime"`
	SlowSync          string   `json:"slowSync"`
	Members           []string `json:"members"`
}

func viewFolder(g *directory.Group, f *directory.Folder) folderView {
	v := folderView{
		Name: g.Name + "/" + f.Name, ID: f.ID.String(), Files: orEmpty(f.Filters.Files), Directories: orEmpty(f.Filters.Directories), Case: f.Case.String(), DirectoryConflict: f.DirectoryConflict.String(), Breaker: f.Breaker.String(),
		Rest: directory.FormatDuration(f.Rest), CaptureBusy: directory.FormatDuration(f.CaptureBusy), TombstoneLifetime: directory.FormatDuration(f.TombstoneLifetime), SlowSync: directory.FormatDuration(f.SlowSync),
		Owners: f.Owners.String(), Attributes: orEmpty(f.Attributes), Members: []string{},
	}
	for _, m := range f.Members {
		v.Members = append(v.Members, m.Server)
	}
	return v
}

func folderCommand(o *options) *cobra.Command {
	c := noun(o, "folder", "replicated folders: create, list, show, set, remove, restore",
		createFolder(),
		viewer{use: "list [GROUP]", short: "list the folders", example: "  dfs folder list projects", args: wants(0, 1, "at most one GROUP"), complete: first(groupNames), show: listFolders},
		viewer{use: "show GROUP/FOLDER", short: "show one folder", example: "  dfs folder show projects/docs", args: one("GROUP/FOLDER"), complete: first(folderNames), show: showFolder},
		setFolder(),
		editor{use: "remove GROUP/FOLDER", short: "take a folder out of the domain", long: `
Ends the replication of a folder. Its files stay on every server.`,
			example: "  dfs folder remove projects/docs", args: one("GROUP/FOLDER"), complete: first(folderNames), change: func(_ *cobra.Command, d *directory.Domain, args []string) error {
				g, f, err := findFolder(d, args[0])
				if err == nil {
					g.Folders = slices.DeleteFunc(g.Folders, func(o *directory.Folder) bool { return o == f })
				}
				return err
			}})
	c.AddCommand(folderRestoreCommand(o))
	return c
}

func listFolders(d *directory.Domain, args []string) (view, error) {
	list := []folderView{}
	v := view{header: []string{"FOLDER", "MEMBERS", "FILTERS"}}
	if len(args) == 1 {
		if _, err := findGroup(d, args[0]); err != nil {
			return v, err
		}
	}
	for _, g := range d.Groups {
		for _, f := range g.Folders {
			if len(args) == 1 && g.Name != args[0] {
				continue
			}
			fv := viewFolder(g, f)
			list = append(list, fv)
			v.rows = append(v.rows, []string{fv.Name, orDash(strings.Join(fv.Members, ", ")), orDash(strings.Join(slices.Concat(fv.Files, fv.Directories), ", "))})
		}
	}
	v.value = list
	return v, nil
}

func showFolder(d *directory.Domain, args []string) (view, error) {
	g, f, err := findFolder(d, args[0])
	if err != nil {
		return view{}, err
	}
	fv := viewFolder(g, f)
	return view{value: fv, rows: [][]string{
		{"Folder", fv.Name}, {"Id", fv.ID}, {"File filters", orDash(strings.Join(fv.Files, ", "))}, {"Directory filters", orDash(strings.Join(fv.Directories, ", "))},
		{"Case", fv.Case}, {"Directory conflict", fv.DirectoryConflict}, {"Breaker", fv.Breaker}, {"Owners", fv.Owners}, {"Attributes", orDash(strings.Join(fv.Attributes, ", "))},
		{"Rest", fv.Rest}, {"Capture busy", fv.CaptureBusy}, {"Tombstone lifetime", fv.TombstoneLifetime}, {"Slow sync", fv.SlowSync}, {"Members", orDash(strings.Join(fv.Members, ", "))},
	}}, nil
}

// folderFlags are a folder's options on a command line.
type folderFlags struct {
	files, directories         []string
	caseRule, rest, busy, life string
	slow                       string
	clash, owners, breaker     string
	attributes                 []string
}

func (f *folderFlags) add(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.files, "exclude-files", nil, "names of files to leave out: '*.bak,~*'; empty for none")
	c.Flags().StringSliceVar(&f.directories, "exclude-directories", nil, "names of directories to leave out")
	c.Flags().StringVar(&f.caseRule, "case", "", "sensitive or insensitive")
	c.Flags().StringVar(&f.clash, "directory-conflict", "", "merge or morph: what becomes of two directories of one name")
	c.Flags().StringVar(&f.owners, "owners", "", "numeric, name or none: how owners and groups replicate")
	c.Flags().StringSliceVar(&f.attributes, "attributes", nil, "extended attributes to replicate besides those that always do: capability, selinux, trusted; empty for none")
	c.Flags().StringVar(&f.breaker, "breaker", "", "on or off: whether members hold a server that replaces or deletes much at once")
	c.Flags().StringVar(&f.rest, "rest", "", "how long an open file is at rest before it is captured: 60s")
	c.Flags().StringVar(&f.busy, "capture-busy", "", "how often a file that never rests is captured: 5m, 0s for never")
	c.Flags().StringVar(&f.life, "tombstone-lifetime", "", "how long a deletion is remembered: 60d")
	c.Flags().StringVar(&f.slow, "slow-sync", "", "how often records are compared below equal vectors: 7d, 0s for never")
	for flag, words := range map[string][]string{
		"case": {"sensitive", "insensitive"}, "directory-conflict": {"merge", "morph"}, "owners": {"numeric", "name", "none"}, "attributes": directory.Attributes(),
	} {
		must(c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
	}
}

func (f *folderFlags) set(c *cobra.Command, to *directory.Folder) error {
	given := c.Flags().Changed
	words := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	}
	if given("exclude-files") {
		to.Filters.Files = words(f.files)
	}
	if given("exclude-directories") {
		to.Filters.Directories = words(f.directories)
	}
	if err := choose("case", f.caseRule, &to.Case, directory.CaseSensitive, directory.CaseInsensitive); err != nil {
		return err
	}
	if err := choose("directory-conflict", f.clash, &to.DirectoryConflict, directory.DirectoryMerge, directory.DirectoryMorph); err != nil {
		return err
	}
	if err := choose("owners", f.owners, &to.Owners, directory.OwnersNumeric, directory.OwnersByName, directory.OwnersNone); err != nil {
		return err
	}
	if given("attributes") {
		list, err := attributeWords(words(f.attributes))
		if err != nil {
			return err
		}
		to.Attributes = list
	}
	if err := choose("breaker", f.breaker, &to.Breaker, directory.BreakerOn, directory.BreakerOff); err != nil {
		return err
	}
	for _, d := range []struct {
		flag, text string
		to         *time.Duration
	}{{"rest", f.rest, &to.Rest}, {"capture-busy", f.busy, &to.CaptureBusy}, {"tombstone-lifetime", f.life, &to.TombstoneLifetime}, {"slow-sync", f.slow, &to.SlowSync}} {
		if !given(d.flag) {
			continue
		}
		v, err := directory.ParseDuration(d.text)
		if err != nil {
			return badSetting(d.flag, err)
		}
		*d.to = v
	}
	return nil
}

// choose sets what a flag of a few words says; empty leaves it.
func choose[T fmt.Stringer](flag, text string, to *T, of ...T) error {
	if text == "" {
		return nil
	}
	var words []string
	for _, v := range of {
		if text == v.String() {
			*to = v
			return nil
		}
		words = append(words, v.String())
	}
	return usageError("--%s %q: it is %s", flag, text, either(words))
}

// either lists words of which one is to be chosen.
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// attributeWords checks the words of --attributes and puts them in order, each once.
func attributeWords(list []string) ([]string, error) {
	for _, w := range list {
		if !slices.Contains(directory.Attributes(), w) {
			return nil, usageError("--attributes %q: it is %s; user.*, ACLs and NT ACLs always replicate", w, either(directory.Attributes()))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func createFolder() editor {
	f := &folderFlags{}
	return editor{
		use: "create GROUP/FOLDER", short: "make a folder; members are added by `dfs membership create`", args: one("GROUP/FOLDER"), flags: f.add,
		example: "  dfs folder create projects/docs",
		complete: first(func(d *directory.Domain) []string {
			var list []string
			for _, g := range groupNames(d) {
				list = append(list, g+"/")
			}
			return list
		}),
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			group, name, ok := strings.Cut(args[0], "/")
			if !ok {
				return usageError("%q is not of the form GROUP/FOLDER", args[0])
			}
			g, err := findGroup(d, group)
			if err != nil {
				return err
			}
			if g.FolderByName(name) != nil {
				return exists("folder", args[0])
			}
			folder := directory.NewFolder(name)
			g.Folders = append(g.Folders, folder)
			return f.set(c, folder)
		},
	}
}

func setFolder() editor {
	f := &folderFlags{}
	name := ""
	return editor{
		use: "set GROUP/FOLDER", short: "change a folder's filters, options or name", args: one("GROUP/FOLDER"), complete: first(folderNames),
		example: "  dfs folder set projects/docs --exclude-files '~*,*.bak,*.tmp,*.iso'\n  dfs folder set projects/docs --owners name --attributes capability,trusted",
		flags: func(c *cobra.Command) {
			f.add(c)
			c.Flags().StringVar(&name, "name", "", "another name in its group; it keeps its identity")
		},
		change: func(c *cobra.Command, d *directory.Domain, args []string) error {
			g, folder, err := findFolder(d, args[0])
			if err != nil {
				return err
			}
			if err := named(c); err != nil {
				return err
			}
			if name != "" && name != folder.Name {
				if g.FolderByName(name) != nil {
					return exists("folder", g.Name+"/"+name)
				}
				folder.Name = name
			}
			return f.set(c, folder)
		},
	}
}
