package engine

import (
	"fmt"

	"opendfs/internal/filter"
	"opendfs/internal/finding"
	"opendfs/internal/repl"
)

// tellLong raises that this disk cannot hold the name of an object, and clears it
// when the object is gone or has another name.
func (f *Folder) tellLong(u *repl.Update) {
	title, told := f.long[u.UID]
	switch long := u.Present && f.cfg.Filter.TooLong(u.Name); {
	case long && told && title == f.title(u):
	case told:
		f.find.Clear(finding.NameTooLong, title)
		delete(f.long, u.UID)
		f.tellLong(u)
	case long && len(f.long) < maxRaised:
		f.long[u.UID] = f.title(u)
		f.find.Raise(finding.NameTooLong, f.long[u.UID], fmt.Sprintf("%d bytes, this disk holds %d", len(u.Name), f.cfg.Filter.Longest()))
	}
}

// tellAllLong tells of all that is on record, where the disk holds less than
// others.
func (f *Folder) tellAllLong() error {
	if f.cfg.Filter.Longest() >= filter.MaxPattern {
		return nil
	}
	for todo := []repl.UID{f.root()}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		err := f.st.Children(dir, "", func(rec *repl.Record) bool {
			f.tellLong(&rec.Update)
			if rec.Type == repl.Directory {
				todo = append(todo, rec.UID)
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("look for names that %s cannot hold: %w", f.cfg.Path, err)
		}
	}
	return nil
}
