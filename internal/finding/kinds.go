package finding

// kinds is the one declaration of every code. Text has no full stop; Remedy
// and Doc are whole sentences. No entry contains '|', which separates the
// columns of docs/findings.md.
var kinds = []Kind{
	// The root of a replicated folder and the disk under it.
	{
		FolderMarkerMissing, Error,
		"the folder's marker .dfsr/marker is not there",
		"Mount or restore the right disk; if this tree is meant to be the folder, run `dfs membership adopt GROUP/FOLDER@SERVER`.",
		"The root exists but does not say which folder it is: an empty mount point, a new disk, a restored tree. The folder stops on this member and deletes nothing anywhere.",
	},
	{
		FolderMarkerForeign, Error,
		"the folder's marker belongs to another folder, membership or epoch",
		"Mount the right disk or correct the path of the membership; if this copy is meant to be the folder, run `dfs membership adopt GROUP/FOLDER@SERVER`.",
		"The tree is a copy, a restored snapshot or another folder's root. The folder stops on this member and deletes nothing anywhere.",
	},
	{
		RootMissing, Error,
		"the root of the folder does not exist",
		"Create or restore the directory, or correct the path of the membership in the domain file.",
		"The path of the membership leads to nothing. The folder stops on this member; that the files are not there is not taken for a deletion.",
	},
	{
		RootUnmounted, Error,
		"the filesystem of the folder is not mounted",
		"Mount the filesystem; replication resumes by itself.",
		"The root is on another device than the one on record. The folder stops on this member; what is missing under the mount point is not taken for a deletion.",
	},
	{
		RootLinked, Error,
		"the path of the root leads through a link that others may have made",
		"Set the path to the directory itself (`dfs membership set FOLDER@SERVER --path`), if what the named link leads to is meant; or let root own it, in a directory where root alone may write.",
		"A symbolic link on the way belongs to neither root nor the user of the member, or lies where others may write or in a replicated folder. It may lead anywhere, and the member would read and write there with all its rights, so the folder stops on this member.",
	},
	{
		FolderOverlaps, Error,
		"another replicated folder of this member holds the root",
		"Add the directory's name to the directory filter of the folder named (`dfs folder set GROUP/FOLDER --exclude-directories`): its files stay where they are, and this folder starts by itself. Of two folders with one root, set the path of one to another directory (`dfs membership set GROUP/FOLDER@SERVER --path`).",
		"Each of the two would take what the other one installs for a change of a user. A folder may lie in another one that has no records of that directory; this one stops on this member, deletes nothing anywhere, and the other one goes on.",
	},
	{
		ReadOnlyFilesystem, Error,
		"the filesystem is read-only",
		"Look for disk errors in the kernel log, repair the filesystem and remount it read-write.",
		"Nothing can be installed here. Changes made elsewhere wait for this member; partners still receive what it has.",
	},
	{
		DiskFull, Error,
		"the disk is full",
		"Free space or enlarge the filesystem; replication resumes by itself.",
		"A write met ENOSPC. Content waits for space; deletes, renames and metadata go on.",
	},
	{
		QuotaExceeded, Error,
		"the disk quota of the owner is exhausted",
		"Raise the quota of the user, group or project that owns the file, or remove files of it.",
		"A write met EDQUOT. The update waits and is tried again; everything else goes on.",
	},
	{
		FreeSpaceReserve, Warning,
		"free space is below the reserve",
		"Free space or enlarge the filesystem; purge kept files that are not wanted with `dfs preserved purge GROUP/FOLDER --before 1d`.",
		"So that the state of this member stays writable, inbound content stops before the disk is full. Deletes, renames and metadata go on.",
	},

	// Single files and directories.
	{
		FileUnreadable, Warning,
		"the file cannot be read",
		"Look for the named error: correct the permissions, or repair the disk.",
		"The file is not sent until it can be read; it is never taken for deleted.",
	},
	{
		ListingError, Warning,
		"the directory cannot be listed completely",
		"Look for the named error: correct the permissions, or repair the disk.",
		"Without a complete listing nothing beneath the directory is taken for deleted. What is seen goes on replicating.",
	},
	{
		ParentObscured, Warning,
		"the directory is hidden by a mount or by another error",
		"Unmount what lies over the directory, or repair it; replication of what is beneath resumes by itself.",
		"What lies beneath can be neither seen nor changed, so no update is made and none is installed there.",
	},
	{
		NameTooLong, Warning,
		"the name or path is too long for this filesystem",
		"Shorten the name on a member that has it.",
		"The update is kept and passed on to other members, but is not on this disk.",
	},
	{
		NameUnstorable, Warning,
		"the name cannot be stored here",
		"Rename the file on a member that has it.",
		"The update is kept and passed on to other members under its true name, but is not on this disk. A name is never mangled.",
	},
	{
		NameCollides, Warning,
		"the name differs only by case from another one, and does not replicate",
		"Rename or remove one of the two on this server; what is left replicates at once.",
		"The folder is case-insensitive: names that fold to the same are one, and this disk has two. The one on record replicates; this one is left where it is, for this server alone. If a partner gives its own object exactly this name, this one goes to the conflict store.",
	},
	{
		CaseRefused, Warning,
		"the folder stays case-sensitive here, because names would collide",
		"Rename or remove one of each pair, on any member; it is tried again every hour and when the member starts.",
		"The domain says `case: insensitive`, but this member has names on record that would be one. Until they are not, it tells names apart byte by byte, as before.",
	},
	{
		ShownMissing, Info,
		"names that a filter kept out before are not on this disk yet",
		"Nothing, if a partner has them; names that no member has any more go when somebody makes and deletes them once.",
		"The filter was lifted. What it had hidden and is not here comes from the partners; it is asked for ever more seldom, once an hour at least.",
	},
	{
		FileOpenSince, Warning,
		"the file is open for writing and never at rest",
		"Close the file in its application, or set capture-busy on the folder for a copy at intervals.",
		"A file that is being written is captured when it is closed or has rested. Until then partners keep the version before.",
	},
	{
		InstallWaitsOpenFile, Warning,
		"a newer version waits because the file is open for writing here",
		"Close the file; the newer version is installed then. Nothing is lost meanwhile.",
		"A file that is open for writing is not replaced under its writer. What the writer saves is captured and merged.",
	},
	{
		ContentChangedWhileSent, Info,
		"the file changed while it was being sent",
		"Nothing; the newer version is captured and sent.",
		"What was read was thrown away, because what is sent must have existed as a whole.",
	},
	{
		HashMismatch, Warning,
		"content does not match its hash",
		"Nothing if it is once; if it is often, test the memory and the disks of both servers.",
		"The assembled file was not installed and is fetched again, whole. Should that not match either, the sender reads its file, and makes a version of what is there if its record is wrong.",
	},
	{
		UnreplicatedEntries, Info,
		"the folder holds entries of a kind that does not replicate",
		"Nothing, if they need not be elsewhere; `dfs explain PATH` tells of one.",
		"Sockets, pipes, devices, mount points and nested replicated folders stay where they are. They are counted, and kept with their directory when that is deleted elsewhere.",
	},
	{
		HardlinkSplit, Info,
		"the file has several names; each replicates as a file of its own",
		"Nothing; space on other members is used once a name.",
		"Hard links are not rebuilt elsewhere. An edit through one name is captured for all names in the folder.",
	},
	{
		NestedFolder, Warning,
		"the root of another replicated folder is in the way of an update",
		"Move the other folder elsewhere (`dfs membership set FOLDER@SERVER --path`), rename its directory, or add its name to the directory filter of this folder.",
		"A partner removed the directory that it lies in, or uses its name. Whoever serves it would lose it, so it stays, and the update waits.",
	},
	{
		UnknownOwner, Warning,
		"the owner or group is not known on this server",
		"Create the user or group here, or join the server to the same user directory.",
		"The file is installed and its owner is carried in the record for other members; it is set here as soon as it is known.",
	},
	{
		NTACLDoubted, Warning,
		"Samba does not believe NT ACLs that came from another server",
		"Set `acl_xattr:ignore system acls = yes` for the share on every server; or let the idmap ranges and the numbers of users and groups agree, with `owners: numeric`.",
		"Samba keeps a hash of owner, mode and POSIX ACL in the NT ACL. With `owners: name` they have other numbers here, and Samba on this server does not know owner and group by the SIDs that the NT ACL names, so smbd takes the NT ACL for outdated and shows what the POSIX permissions say. The attribute itself is the same on every server.",
	},
	{
		OwnerNumbersDiffer, Error,
		"users or groups have other numbers here than where their files come from",
		"Let the idmap ranges of all servers agree; or set `owners: name` for the folder, then run `find ROOT -path ROOT/.dfsr -prune -o ! -type l -exec chmod u+ {} +` on the server whose numbers are right: it changes nothing, and what is there travels again, as names and without content.",
		"With `owners: numeric` owners and POSIX ACLs travel as numbers. The NT ACLs that came with them say which SIDs are meant, and winbindd gives these other numbers here. So files belong to nobody here, or to somebody else: Samba shows the NT ACLs as they were set, and the system refuses what they allow, or allows what they refuse.",
	},
	{
		MetadataCarried, Warning,
		"some metadata cannot be stored here",
		"Run the member as root, or on a filesystem with extended attributes and ACLs, if this server must have them.",
		"Content is installed. Metadata that this filesystem or this user cannot set is carried in the record, so that the next member still receives it.",
	},
	{
		FilesystemLacks, Info,
		"the filesystem lacks what others have",
		"Nothing if this server need not have it; otherwise move the folder to ext4, xfs or btrfs, mounted with ACLs and attributes.",
		"Tried when the folder was opened. What cannot be stored here is carried in the record, so that the next member still receives it.",
	},

	// What this member notices by.
	{
		JournalDegraded, Warning,
		"changes are noticed by a slower journal than usual",
		"Run the member as root on a local filesystem for fanotify; raise fs.inotify.max_user_watches for inotify.",
		"The best journal was refused, so changes are found by inotify or by a periodic walk. Nothing is missed, but it may be seen later.",
	},
	{
		JournalGap, Info,
		"the journal has a gap; the tree is compared with the database",
		"Nothing; it ends when the walk ends.",
		"The kernel's queue overflowed or the member was not running. The walk re-reads only what differs.",
	},
	{
		ClockAhead, Warning,
		"the clock of this server is ahead of its partners",
		"Set the clock and run a time service.",
		"It is ahead of the named partner by more than clock-skew (5 minutes). Where it is ahead of all partners, what this member makes is stamped by theirs, so that it does not win conflicts unfairly.",
	},
	{
		ClockBehind, Warning,
		"the clock of this server is behind its partners",
		"Set the clock and run a time service.",
		"Edits made here may lose a conflict against older ones made elsewhere; the loser is kept.",
	},

	// Partners.
	{
		PartnerUnreachable, Warning,
		"the partner does not answer",
		"Check that `dfs serve` runs there, its address in the domain file, name resolution and the firewall (port 7440).",
		"Nothing travels on the connection. It is tried again by itself, and what was missed follows.",
	},
	{
		PartnerRefused, Error,
		"the partner refused this member",
		"Check on the partner: `dfs connection list`, `dfs server list`; a revoked or replaced server joins again with a new invitation.",
		"The partner answered, but does not serve this folder or this identity: no connection in its directory, a revoked or expired certificate, or another domain.",
	},
	{
		PartnerVersion, Error,
		"the partner speaks no common version of the protocol",
		"Upgrade the older of the two; adjacent versions understand each other.",
		"Nothing travels on the connection until both have a version in common.",
	},
	{
		PartnerBadMessage, Error,
		"the partner sent what it must not send",
		"Compare the versions of the two; if they are equal keep both logs and report it. Revoke the partner if it is not trusted.",
		"A malformed, oversized or untrue message was refused and the session closed. Nothing of it was stored.",
	},
	{
		CertificateExpiring, Warning,
		"the certificate expires soon",
		"Make sure that the server that holds the CA can be reached; if it cannot, run `dfs ca import` on another.",
		"A certificate is renewed by itself at two thirds of its life. This one was not, and partners will refuse it when it ends.",
	},

	// The state of this member.
	{
		StateRebuilt, Warning,
		"the database was missing, damaged or foreign and is being rebuilt",
		"Nothing; look for the cause (disk errors, a copied state directory). The old one was moved aside in the state directory.",
		"The tree is walked under a new originator and compared with the partners. Local differences do not win.",
	},
	{
		StateRolledBack, Error,
		"the state of this member is older than what partners know of it",
		"Nothing if it was restored on purpose; never run two servers from one state directory.",
		"A backup or a snapshot was restored, or the state was copied. The member makes no updates until it has taken a new originator and compared itself with its partners.",
	},
	{
		StateInTree, Error,
		"the state directory lies inside a replicated folder",
		"Move the state directory (`dfs serve --state DIR`) or the folder.",
		"Replicating the database of a member would destroy it. The folder does not start.",
	},
	{
		StateOnNetworkFilesystem, Error,
		"the state directory is on a network filesystem",
		"Move the state directory to a local disk (`dfs serve --state DIR`).",
		"Locks and flushes of network filesystems do not hold what the database relies on. The member does not start.",
	},
	{
		StateNewer, Error,
		"the state was written by a newer version",
		"Install that version or a later one.",
		"An older program does not touch newer state. The member does not start.",
	},
	{
		StoreError, Error,
		"the database reported an error",
		"Check the disk of the state directory: space, permissions, kernel log. The database is rebuilt by itself if it is damaged.",
		"Nothing is confirmed that is not stored, so the folder stops where it is until the database works again.",
	},

	// The directory.
	{
		DirectoryUnreachable, Warning,
		"the directory that the domain lives in cannot be reached from here",
		"Correct the named error: servers that are down, an address, a password. If it is gone for good run `dfs directory promote` on a server that holds the CA's key.",
		"The member replicates by the last domain it knows. Changes made here are refused, and those made elsewhere come by partners.",
	},
	{
		DirectoryCopyStale, Warning,
		"the copy of the domain is older than a partner's",
		"Check that this server reaches the master or a partner; if the master is gone for good run `dfs directory promote` on a survivor.",
		"The member replicates by the last domain it knows. Changes of the domain are not seen here.",
	},
	{
		DirectoryEditRefused, Warning,
		"a hand-made change of the domain file is not used",
		"Correct the named error, or make the change on the master with `dfs apply -f domain.yaml`.",
		"The file in the state directory is invalid, out of date, or on a server that is not the master. The member goes on with the last good domain.",
	},
	{
		DirectorySuperseded, Warning,
		"this server was the master of the domain; another was promoted",
		"Look whether `domain.yaml.superseded` in the state directory has changes that the domain lacks; repeat them on the new master, then remove the file.",
		"Changes of the domain are refused here. What this server had as master is kept; a change that it made alone is not in the domain.",
	},

	// Initial sync, what is kept, what waits.
	{
		NoPrimary, Warning,
		"the folder has no primary member",
		"Set `primary: true` on the member whose content is to win, and apply.",
		"A new folder waits, because nobody has said whose content wins the initial sync. A folder that has synced does not need one.",
	},
	{
		SecondPrimary, Error,
		"the folder has a second primary member",
		"Leave `primary: true` on one member only, and apply.",
		"Two members claim that their content wins the initial sync. The second is refused and changes nothing.",
	},
	{
		InitialSyncWaiting, Warning,
		"the initial sync waits for a partner",
		"Start a partner that is Normal for this folder, or the primary member.",
		"This member sends nothing of its own before it has compared its tree with a partner that has finished.",
	},
	{
		MassChangeHeld, Error,
		"a server replaced or deleted much of the folder, and is held",
		"Look at what happened there; then `dfs held release GROUP/FOLDER` lets it go on, `dfs held reject GROUP/FOLDER` restores what this member has, on every member.",
		"One originator replaced the content of, or deleted, more than 30 % of the folder's files within ten minutes. From there on nothing of it is installed on this member, through any partner, nor what rests on it; everything else goes on.",
	},
	{
		ConflictKept, Info,
		"a version that lost a conflict was kept",
		"Nothing; `dfs preserved list GROUP/FOLDER` shows it and who won, `dfs preserved restore GROUP/FOLDER PATH --all` puts it beside the winner.",
		"Two members changed the same thing without knowing of each other, or one was found changed after a member had died. One version won everywhere; the other is in the conflict store. Stands until the member starts anew.",
	},
	{
		PreexistingKept, Info,
		"files that only this member had were kept aside by the initial sync",
		"Nothing; `dfs preserved list GROUP/FOLDER --why pre-existing` shows them, `dfs preserved restore GROUP/FOLDER PATH` brings them back.",
		"The primary's content won. What was here before and is not there is in the PreExisting store, without quota.",
	},
	{
		LocalChangeUndone, Info,
		"changes made on this read-only member were undone",
		"Tell the users to write on another member; `dfs preserved list GROUP/FOLDER` shows what they wrote here.",
		"A read-only member sends nothing of its own. What its users change is put back to what its partners have; what they wrote is in the conflict store. Stands until the member starts anew.",
	},
	{
		ConflictStoreOverQuota, Warning,
		"the conflict store is over its quota",
		"Raise conflict-quota or shorten conflict-retention in the domain file, or run `dfs preserved purge GROUP/FOLDER --before 3d`.",
		"Losers are promised for the retention, so the quota is a target and never blocks. It is held again when the oldest may go.",
	},
	{
		StagingSmall, Info,
		"staging is too small for the files that change",
		"Raise staging-quota in the domain file, or make room on the disk.",
		"Signatures of files go when staging is full and are made again when they are needed, by reading the file. Staging has grown by itself as far as the disk allows. Nothing waits for it.",
	},
	{
		ParkedUpdate, Warning,
		"an update waits for a directory that is not known here",
		"Nothing if it is short; otherwise check that the connections of the group reach every member.",
		"The update's parent has not arrived yet and is asked for. The update is not counted as known, so it cannot be missed.",
	},
	{
		MemberAway, Warning,
		"a member of the folder has not been heard of for long",
		"Bring the server or its connections back; if it is gone for good, remove its membership.",
		"Deletions are remembered until every member knows them, so one that is away makes them stay. When it has been away for the whole tombstone-lifetime, it is evicted: it may come back later, but what it has is then compared with the others and is not authoritative.",
	},
	{
		MemberEvicted, Warning,
		"a member of the folder was evicted, because it was away for longer than deletions are remembered",
		"Bring the server back, and it starts anew by itself; if it is gone for good, remove its membership.",
		"It is not waited for any more. When it comes back it takes a new database: what it has that the others do not goes to its conflict store or to .dfsr/preexisting, and nothing of it is lost.",
	},
	{
		MemberStale, Warning,
		"this member's records are older than deletions are remembered",
		"Nothing: the folder is compared with the partners anew. Look for what users changed here meanwhile with `dfs preserved list`.",
		"It was away for longer than tombstone-lifetime, or its database is of a backup that is so old. Partners have forgotten deletions that it never heard of, so a diff would bring deleted files back; or the partner that its first sync began with is put out, and no other one knows what that had forgotten. It starts anew with a new database, not authoritatively: files that differ or that only it has are kept in its conflict store and in .dfsr/preexisting.",
	},
	{
		PartnerStale, Warning,
		"a partner's records are older than deletions are remembered here",
		"Nothing if it is short: the partner starts anew by itself. If it stays, look at `dfs status` there.",
		"The partner does not know deletions that this member has forgotten, so nothing is taken from it until it does.",
	},
	{
		RecordsDiffer, Warning,
		"records differed from a partner's where both know the same versions",
		"Nothing if it goes: the law of conflicts mends what can be mended, and the next comparison, seconds later, clears this. If it stays, take the tree of the server that is right with `dfs folder restore --from SERVER GROUP/FOLDER` on the other, and test the memory and the disk of both.",
		"A slow sync, once a week, compares the records of two members below equal version vectors, which cannot show a record that was lost or altered in a database. What the partner has greater is installed; what it lacks it is told of, or it is made new; of two contents of one version the one that does not win is kept in the conflict store. Nothing is removed for being unknown to the partner.",
	},
	{
		HeldOriginator, Error,
		"a mass change of one member is held back",
		"Look at `dfs held list`; if it was meant run `dfs held release`, if not `dfs held reject`.",
		"Within minutes one member replaced or deleted much of the folder. From there on nothing of that member is installed, through any partner.",
	},
}

var byCode = func() map[Code]int {
	m := make(map[Code]int, len(kinds))
	for i, k := range kinds {
		if _, twice := m[k.Code]; twice {
			panic("finding: code " + string(k.Code) + " is declared twice")
		}
		m[k.Code] = i
	}
	return m
}()

// Kinds gives every declared kind in the order of the table. The slice is the
// caller's.
func Kinds() []Kind { return append([]Kind(nil), kinds...) }

// Lookup finds the declaration of a code.
func Lookup(c Code) (Kind, bool) {
	i, ok := byCode[c]
	if !ok {
		return Kind{}, false
	}
	return kinds[i], true
}
