// Package journal is the change journal of a replicated tree: it tells which
// names were made dirty, or that it cannot tell (a Gap). It says that something
// may have changed, never what: the tree is the truth and the journal a hint.
// Duplicates, echoes of our own installs and false alarms are normal and cost
// the consumer a look at the disk. A miss without a Gap is a defect, but for
// the cases under "Blind spots".
//
// # Places
//
// A Dirty names a place: a name in a parent directory. The directory is given
//
//   - by fanotify as Dir, the kernel's file handle in the form in which the
//     volume records identities: the handle type as 4 bytes little-endian,
//     followed by the handle's bytes (1 to 128). Path is beside it where the
//     directory could be resolved: its place when the event was read, a hint;
//     Dir is what counts.
//   - by inotify as Path alone, relative to the root, slash-separated, "." for
//     the root.
//
// The name "." means the directory itself (its mode, owner, ACL). An empty Name
// with a Child means an object known by its handle alone: look it up among the
// recorded identities; if it is unknown there, ignore it, because the names of
// everything new are reported too. It is what the kernel says of a file that was
// made with O_TMPFILE, opened by handle, or changed through a link that lies
// outside the folder. Child is given with a name too wherever it is known: after
// a rename both places carry the child's handle, in one Batch.
//
// Tree means that everything at and below the place is in doubt: a directory
// that arrived from outside the folder or from the private area, or that inotify
// began to watch just now. List it even if its handle is on record.
//
// The private area .dfsr in the root is never reported.
//
// # Kinds
//
// Open takes the best of three that works, proved by an event of its own (a
// probe in .dfsr that must be seen within two seconds); Reason says why better
// ones were refused.
//
//   - fanotify: one mark on the filesystem, no watch per directory. Needs root
//     (CAP_SYS_ADMIN for the mark, CAP_DAC_READ_SEARCH for handles) and a
//     filesystem with handles; overlayfs and btrfs subvolumes refuse the mark.
//   - inotify: one watch for each directory. A directory is watched, then
//     listed for subdirectories, then reported with Tree. Out of watches, or a
//     directory that cannot be watched: the journal lets all watches go and
//     becomes a walk with that reason. A directory that this process may not
//     read is not watched until its mode changes.
//   - walk: network and cluster filesystems, where changes of other hosts give
//     no events, and wherever the others were refused: a Gap now and then.
//
// The first Batch of every journal is a Gap: what happened before Open nobody
// knows. Afterwards a Gap means overflow (the kernel's or our own: no more than
// Options.MaxNames names wait for Next), a directory tree watched anew, or the
// walk's period. Names that came before a Gap was handed out are left out of
// it: the walk begins after them and covers them.
//
// # One mark, several folders
//
// A Hub owns one fanotify group for each filesystem; its folders subscribe. The
// mark reports the whole filesystem, so for each event the hub must know in
// which folders its directory lies. It asks the kernel: open_by_handle_at, then
// each directory above, by its device and inode, until it has met the roots; the
// link in /proc/self/fd before and after says that nothing moved meanwhile. So it
// costs what the directory is deep, however many folders there are. A directory
// that is made where no folder lies is known to lie there as well. The answers are
// kept in a bounded cache that is emptied by every rename of a directory that has
// to do with a folder, so an answer is never older than the tree that the events
// describe:
//
//   - inside a root: delivered; in its private area or outside: dropped;
//   - gone (ESTALE): delivered without Path to each folder that, by
//     Options.Known, has that directory on record, for only there can anything
//     be deleted;
//   - not resolvable for any other reason: delivered without Path to all.
//
// A file with several links that is written through a name outside a folder is
// reported to that folder by Child alone.
//
// # Blind spots
//
// FAN_MODIFY is not in the mask (it costs small writes 17 % more), so what never
// closes a writable descriptor is not seen: truncate(2) by path, stores to a map
// that stays mapped. A directory of a folder moved out, changed, moved back in
// and its then parent moved too within one read of the queue may lose the
// changes made outside. inotify does not see writes through links outside the
// folder, and under O_TMPFILE only the linking. A walk finds all of these.
package journal
