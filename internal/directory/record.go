package directory

// Edit is one change of the domain as an audit has it: what an object or one of
// its properties was, and is.
type Edit struct {
	// Op is the word of the operation: add, remove, rename, set.
	Op string
	// Object is named as Change names it.
	Object string
	// Property is what was set; empty for the object as a whole.
	Property string
	// Before and After are texts; empty where there was or is nothing.
	Before, After string
}

// Edits lists what turns old into new, for the record. Unlike Diff it names each
// object that is removed, what is inside another included, with what it had. A nil
// old is an empty domain.
func Edits(old, new *Domain) []Edit {
	if old == nil {
		old = &Domain{}
	}
	var list []Edit
	for _, c := range Diff(old, new) {
		switch c.Op {
		case Set:
			list = append(list, Edit{c.Op.String(), c.Object, c.Property, c.Before, c.After})
		case Add:
			list = append(list, Edit{Op: c.Op.String(), Object: c.Object, After: orNone(c.Detail)})
		case Rename:
			list = append(list, Edit{Op: c.Op.String(), Object: c.Object, Property: "name", Before: c.Object, After: c.Detail})
		}
	}
	for _, c := range Diff(new, old) { // what it would take to bring back
		if c.Op == Add {
			list = append(list, Edit{Op: Remove.String(), Object: c.Object, Before: orNone(c.Detail)})
		}
	}
	return list
}
