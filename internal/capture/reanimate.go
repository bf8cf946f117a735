package capture

import "opendfs/internal/repl"

// Graves lists the tombstones of a place whose objects may come back to life there
// under a name: no losers of a name (rule 7), none that a filter or plan has to do
// with.
type Graves func(dir repl.UID, name string) ([]repl.Record, error)

// Reanimate lets new objects of a group of drafts be the deleted ones of their
// name and type: who deletes a file and makes it again, as many programs save, has
// changed it. So an edit made elsewhere meanwhile is another version of one file,
// and no name is fought for. Of several the newest comes back, and none with a
// clock below since: it may be forgotten elsewhere. It returns how many did.
func Reanimate(group []Draft, since repl.Time, graves Graves) (n int, err error) {
	taken := make(map[repl.UID]bool)
	for i := range group {
		if p := group[i].Prior; p != nil {
			taken[p.UID] = true
		}
	}
	for i := range group {
		d := &group[i]
		if d.Kind != KindCreate || d.Prior != nil || d.Rival != nil {
			continue
		}
		dead, err := graves(d.Update.Parent, d.Update.Name)
		if err != nil {
			return n, err
		}
		var newest *repl.Record
		for k := range dead {
			r := &dead[k]
			if r.Type != d.Update.Type || !r.Heir.IsZero() || r.Clock < since || taken[r.UID] {
				continue
			}
			if newest == nil || repl.Compare(&r.Update, &newest.Update) > 0 {
				newest = r
			}
		}
		if newest != nil {
			taken[newest.UID] = true
			n++
			d.Prior = newest
			d.Update.UID, d.Update.Fence, d.Update.CreateTime = newest.UID, newest.Fence, newest.CreateTime
		}
	}
	return n, nil
}
