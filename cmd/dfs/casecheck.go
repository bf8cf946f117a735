package main

import (
	"errors"
	"fmt"
	"slices"

	"opendfs/internal/control"
	"opendfs/internal/directory"
	"opendfs/internal/engine"
	"opendfs/internal/repl"
	"opendfs/internal/store"
)

// caseAgrees says why this server cannot follow a change of the domain: a folder
// that is to compare names without regard to case has names that would be one
// then. Other members find out by themselves, and say so.
func (m *member) caseAgrees(now, next *directory.Domain) (warnings []string, err error) {
	db := m.database()
	if db == nil {
		return nil, nil
	}
	for _, g := range next.Groups {
		for _, f := range g.Folders {
			_, before := now.Folder(f.ID)
			if before == nil || before.Case == f.Case || f.Case != directory.CaseInsensitive {
				continue
			}
			name := g.Name + "/" + f.Name
			if !slices.Contains(db.Folders(), repl.FolderID(f.ID)) {
				warnings = append(warnings, name+": this server has no part in it; members on which names differ only by case stay case-sensitive, with the finding case-refused")
				continue
			}
			if err := collisions(db, name, repl.FolderID(f.ID)); err != nil {
				return nil, err
			}
		}
	}
	return warnings, nil
}

func collisions(db *store.Store, name string, id repl.FolderID) error {
	records, err := db.Folder(id)
	if err != nil {
		return err
	}
	err = records.Collisions()
	var found *store.CollisionError
	if !errors.As(err, &found) {
		return err
	}
	return control.Hint(fmt.Errorf("folder %s cannot be case-insensitive, because names differ only by case: %s", name, engine.Pairs(records, found)),
		"rename or remove one of each pair on any member, then repeat this; nothing was changed")
}
