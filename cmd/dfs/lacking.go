package main

import (
	"context"
	"fmt"
	"strings"

	"opendfs/internal/engine"
	"opendfs/internal/finding"
	"opendfs/internal/volume"
)

// maxNamed bounds the names in one detail.
const maxNamed = 8

// judgeOwners raises or clears that owners are not known here, that they have
// other numbers here, and that NT ACLs are not believed. When an owner has become known, what was carried for it is
// set.
func (k *keeper) judgeOwners(ctx context.Context, v *volume.Disk, r *engine.Runner) {
	if n := v.DoubtedNTACLs(); n > 0 {
		k.f.find.Raise(finding.NTACLDoubted, k.Name, fmt.Sprintf("%d set since the folder was opened", n))
	} else {
		k.f.find.Clear(finding.NTACLDoubted, k.Name)
	}
	if others := v.OtherNumbers(); len(others) > 0 {
		k.f.find.Raise(finding.OwnerNumbersDiffer, k.Name, fewOf(others))
	} else {
		k.f.find.Clear(finding.OwnerNumbersDiffer, k.Name)
	}
	unknown := v.UnknownOwners()
	if int64(len(unknown)) < k.unknown.Swap(int64(len(unknown))) {
		r.Mend(ctx)
	}
	if len(unknown) == 0 {
		k.f.find.Clear(finding.UnknownOwner, k.Name)
		return
	}
	k.f.find.Raise(finding.UnknownOwner, k.Name, fewOf(unknown))
}

// fewOf is the list of names in a detail.
func fewOf(names []string) string {
	detail := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if len(names) > maxNamed {
		detail += ", …"
	}
	return detail
}

// judgeFeatures says once what the filesystem of a folder lacks.
func (k *keeper) judgeFeatures(v *volume.Disk) {
	f := v.Features()
	var lacks []string
	for _, x := range []struct {
		has  bool
		text string
	}{
		{f.Xattrs, "no extended attributes: they are carried"},
		{f.ACLs, "no POSIX ACLs: they are carried"},
		{f.Handles, "no file handles: objects are known by their place"},
		{f.BirthTimes, "no birth times: objects are known by their handle alone"},
		{f.Leases, "no leases: who writes to a file is told by its size and times alone"},
		{f.Exchange, "no exchange of names: files are not replaced here"},
	} {
		if !x.has {
			lacks = append(lacks, x.text)
		}
	}
	if len(lacks) == 0 {
		k.f.find.Clear(finding.FilesystemLacks, k.Name)
		return
	}
	k.f.find.Raise(finding.FilesystemLacks, k.Name, f.Filesystem+" has "+strings.Join(lacks, "; "))
}
