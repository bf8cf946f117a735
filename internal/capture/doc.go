// Package capture turns a dirty name, what lies on disk under it, and the
// record of it into drafts of updates, or into nothing. It mints no version and
// writes neither records nor the tree: its caller passes a draft through
// repl.Mint and stores it.
//
// # Contract
//
// Look judges names of one directory; a complete look (Work.All) lists the
// directory and merges the listing with the records, so that missing names are
// found too. Gone judges records whose names were missing. Both may be called
// by several goroutines at once, each for directories of its own.
//
// Drafts come in an order in which they can be stored: parents before children,
// deletions of children before that of their directory, who leaves a place
// before who takes it. Drafts of one Group come one after the other and belong
// into one batch: either all still hold or none is stored. A draft holds as long
// as Prior is the record of its object, nobody but the records of its group
// claims its place (Rival excepted), and no install under way has closed the
// object or the place; otherwise the caller drops the group and has its names
// looked at again. Whether emit stores at once or later is the caller's choice:
// a call to Look expects records as they were when it began, but bears newer
// ones. Descend, Gone and Dirty are meant for after the drafts were stored.
//
// # What is concluded
//
//   - A directory counts only under the identity on record: at its recorded
//     path, or where its handle leads if its move has not been captured yet. If
//     it is at neither, the result says Missing and nothing is concluded of its
//     names.
//   - Same place, same identity: an equal fingerprint means unchanged. Another
//     size or mtime, or a reported write with another ctime, has the content
//     read; otherwise only metadata are read and compared.
//   - Same place, another identity: for files and links the object lives on with
//     what lies there now (a save by rename). If what lies there is known from
//     another place, and that place is empty, the object from there dies in the
//     same group (rule 12). For directories the place follows the object: who is
//     known moves, and who held the place moves, dies or, if the newcomer is
//     unknown and nothing of the old directory is left in the folder, goes on
//     under the new identity.
//   - A new place, a known identity: a move, if the old place is seen not to hold
//     it any more; a file's must be seen empty, because a file may have several
//     names. Everything else is a new object.
//   - A name that is missing from a complete look, or was looked for and not
//     found, is a candidate for Gone, no deletion. Gone deletes if the parent is
//     there under the recorded identity, the name is not, and the handle leads
//     nowhere in the folder (rule 20). If it leads to another place, that place
//     is named in Dirty and the candidate comes back in Result.Gone: have the
//     place looked at, store what comes of it, then ask again, after a pause
//     that grows if it comes back once more. Without the privilege to resolve
//     handles a rename whose other half was not seen becomes a deletion and a
//     creation of the same content.
//   - Only records on disk are found edited or deleted (rule 23). An obscured
//     one whose object is seen again is on disk again; it is never found
//     deleted, but absent. Something that appears where a live record is not on
//     this disk becomes that record if type and content agree, or if it is
//     absent and the type agrees, else a new object whose draft names the record
//     as Rival: the caller settles the name conflict.
//   - Where the folder folds names (Deps.Fold), another spelling of a name on
//     record is that record, given another spelling, if nothing lies at the
//     record's own: a rename. If something does, the other spelling is left
//     alone and counts as not there, with a finding; it is captured when the
//     place is free. A directory takes its record along to another spelling;
//     with files the recorded spelling keeps the record.
//   - Names that the filter keeps out, sockets, pipes, devices, mount points and
//     the roots of other replicated folders are counted and count as not there.
//     What moved on to such a name is gone. All but the first are told of by
//     findings.
//
// # Fingerprints
//
// What is sent existed: an object is looked at before and after its content and
// metadata were read, and must be the same. A file that somebody has open for
// writing is left alone until it has rested (Deps.Rest, by its ctime, which
// nobody can set), then read like any other. A fingerprint whose ctime is so
// young that a further change could hide behind it (Deps.Racy) is drafted with
// a zero ctime, and the name is reported in Again. A record with a zero ctime
// is never believed unchanged, so that nothing is missed even if the second
// look is lost with the process.
//
// Hashes are BLAKE3-256 of a file's data or of a link's target. Where an object
// is known by identity and its size and mtime stand, its recorded hash is used.
package capture
