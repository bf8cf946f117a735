package ad

import (
	"errors"
	"strings"
	"testing"
	"time"

	"opendfs/internal/directory"
	"opendfs/internal/directory/directorytest"
	"opendfs/internal/schedule"

	"github.com/go-ldap/ldap/v3"
)

// openAt opens a Store that the end of the test closes.
func (dc *controller) openAt(t testing.TB, first *directory.Document, step func(string) error) *Store {
	t.Helper()
	s, err := open(t.Context(), dc.settings(first.Domain.ID), first, step)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestActiveDirectoryIsAStore(t *testing.T) {
	dc := needController(t)
	directorytest.Run(t, func(t *testing.T) directorytest.Backend {
		dc.clear(t)
		first := directorytest.First(t)
		return directorytest.Backend{Shared: true, Open: func(t testing.TB, step func(string) error) directory.Store { return dc.openAt(t, first, step) }}
	})
}

// What Windows' tools make: names with spaces, drives, GUIDs for names, a filter
// without blanks, a schedule in local time.
const windows = `dn: CN=FS1,CN=Computers
objectClass: computer
sAMAccountName: FS1$
dNSHostName: fs1.corp.example
userAccountControl: 4098

dn: CN=FS2,CN=Computers
objectClass: computer
sAMAccountName: FS2$
dNSHostName: fs2.corp.example
userAccountControl: 4098

dn: CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-ReplicationGroup
msDFSR-ReplicationGroupType: 0
msDFSR-TombstoneExpiryInMin: 43200
msDFSR-Options: 1

dn: CN=Content,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Content

dn: CN=Handbook (2024),CN=Content,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-ContentSet
msDFSR-FileFilter: ~*,*.TMP,*.BAK
msDFSR-DirectoryFilter: Old

dn: CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Topology

dn: CN=M1,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Member
msDFSR-ComputerReference: CN=FS1,CN=Computers,BASE

dn: CN=M2,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Member
msDFSR-ComputerReference: CN=FS2,CN=Computers,BASE

dn: CN=C1,CN=M1,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Connection
fromServer: CN=M2,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System,BASE
msDFSR-Enabled: FALSE

dn: CN=C2,CN=M2,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System
objectClass: msDFSR-Connection
fromServer: CN=M1,CN=Topology,CN=Corp Documents,CN=DFSR-GlobalSettings,CN=System,BASE
msDFSR-Enabled: TRUE
msDFSR-RdcEnabled: FALSE

dn: CN=DFSR-LocalSettings,CN=FS1,CN=Computers
objectClass: msDFSR-LocalSettings
msDFSR-Version: 1.0.0.0

dn: CN=DFSR-LocalSettings,CN=FS2,CN=Computers
objectClass: msDFSR-LocalSettings`

// subscribe adds what a member's computer says, with the GUIDs that Active
// Directory has given.
func (dc *controller) subscribe(t testing.TB, computer, member, path, options string) {
	t.Helper()
	dc.do(t, func(c *ldap.Conn) error {
		group := "CN=Corp Documents," + globalDN(dc.base)
		guid := func(dn string) string {
			list, err := search(c, dn, ldap.ScopeBaseObject, "(objectClass=*)", "objectGUID")
			if err != nil || len(list) != 1 {
				t.Fatalf("%s: %v", dn, err)
			}
			return list[0].one("objectGUID")
		}
		sub := ldap.NewAddRequest("CN=S,CN=DFSR-LocalSettings,CN="+computer+",CN=Computers,"+dc.base, nil)
		sub.Attribute("objectClass", []string{classSubscriber})
		sub.Attribute("msDFSR-ReplicationGroupGuid", []string{guid(group)})
		sub.Attribute("msDFSR-MemberReference", []string{"CN=" + member + ",CN=Topology," + group})
		if err := c.Add(sub); err != nil {
			return err
		}
		r := ldap.NewAddRequest("CN=T,"+sub.DN, nil)
		r.Attribute("objectClass", []string{classSubscription})
		r.Attribute("msDFSR-ReplicationGroupGuid", []string{guid(group)})
		r.Attribute("msDFSR-ContentSetGuid", []string{guid("CN=Handbook (2024),CN=Content," + group)})
		r.Attribute("msDFSR-RootPath", []string{path})
		r.Attribute("msDFSR-StagingPath", []string{`E:\Staging`})
		r.Attribute("msDFSR-StagingSizeInMb", []string{"16384"})
		r.Attribute("msDFSR-Options", []string{options})
		r.Attribute("msDFSR-Enabled", []string{"TRUE"})
		return c.Add(r)
	})
}

// existing makes a domain as Windows' tools would.
func (dc *controller) existing(t testing.TB) {
	t.Helper()
	dc.clear(t)
	dc.ldif(t, windows)
	dc.subscribe(t, "FS1", "M1", `D:\Data\Handbook`, "1")
	dc.subscribe(t, "FS2", "M2", `F:\Handbook`, "0")
	office, err := schedule.Parse("mon-fri 08:00-18:00 512kbps; else full")
	if err != nil {
		t.Fatal(err)
	}
	blob, _ := office.Blob()
	dc.modify(t, "CN=Corp Documents,"+globalDN(dc.base), "msDFSR-Schedule", string(blob))
}

func (dc *controller) modify(t testing.TB, dn, attribute, value string) {
	t.Helper()
	dc.do(t, func(c *ldap.Conn) error {
		r := ldap.NewModifyRequest(dn, nil)
		if r.Replace(attribute, []string{value}); value == "" {
			r.Changes = nil
			r.Delete(attribute, nil)
		}
		return c.Modify(r)
	})
}

func (dc *controller) entry(t testing.TB, dn string) *object {
	t.Helper()
	var o *object
	dc.do(t, func(c *ldap.Conn) error {
		list, err := search(c, dn, ldap.ScopeBaseObject, "(objectClass=*)")
		o = first(list)
		return err
	})
	return o
}

// The groups of a domain that was never ours are read as they are.
func TestExistingGroupsAreReadAsTheyAre(t *testing.T) {
	dc := needController(t)
	dc.existing(t)
	doc, err := Existing(t.Context(), *dc.options())
	if err != nil {
		t.Fatal(err)
	}
	d := doc.Domain.Clone()
	strip(d)
	want := `version: 1
domain: corp
servers:
  fs1: {address: "fs1.corp.example:7440"}
  fs2: {address: "fs2.corp.example:7440"}
groups:
  Corp-Documents:
    topology: {connections: ["fs1->fs2", {from: fs2, to: fs1, enabled: false}]}
    schedule: "mon-fri 08:00-18:00 512kbps; else full"
    folders:
      Handbook--2024:
        filters: {files: ["~*", "*.TMP", "*.BAK"], directories: [Old]}
        tombstone-lifetime: 30d
        members:
          fs1: {path: "/D:/Data/Handbook", primary: true, staging-quota: 16GiB}
          fs2: {path: "/F:/Handbook", staging-quota: 16GiB}
`
	if got := string(directory.Marshal(d)); got != want {
		t.Errorf("it is read as\n%s\nwant\n%s", got, want)
	}
	if g := doc.Domain.Groups[0]; g.ID.IsZero() || g.Folders[0].ID.IsZero() || g.Folders[0].Members[0].ID.IsZero() || doc.Domain.Servers[0].ID.IsZero() {
		t.Error("what Active Directory has GUIDs for has no ids")
	}
	if guid, _ := guidFrom(dc.entry(t, "CN=Corp Documents,"+globalDN(dc.base)).one("objectGUID")); guid != doc.Domain.Groups[0].ID {
		t.Error("the group's id is not its objectGUID")
	}
}

// strip takes the ids away.
func strip(d *directory.Domain) {
	for _, s := range d.Servers {
		s.ID = directory.UUID{}
	}
	for _, g := range d.Groups {
		g.ID = directory.UUID{}
		for _, f := range g.Folders {
			f.ID = directory.UUID{}
			for _, m := range f.Members {
				m.ID = directory.UUID{}
			}
		}
	}
}

// A domain of ours moves to where there are groups already: they become part of
// it, and a change of ours leaves what they have beside it.
func TestOursAndExistingGroupsLiveTogether(t *testing.T) {
	dc := needController(t)
	dc.existing(t)
	first := directorytest.First(t)
	s := dc.openAt(t, first, nil)
	seen := s.Watch(t.Context())
	d := until(t, seen, func(d *directory.Domain) bool { return d.GroupByName("Corp-Documents") != nil })
	if d.Generation != 2 || d.GroupByName("projects") == nil || d.ServerByName("fs1") == nil {
		t.Fatalf("the domain has generation %d and groups %v", d.Generation, d.Groups)
	}
	doc := directorytest.Load(t, s)
	next := doc.Domain.Clone()
	m := next.GroupByName("Corp-Documents").Folders[0].Member("fs2")
	m.StagingQuota, m.ReadOnly = 8*directory.GiB, true
	nextDoc, err := doc.With(next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), 2, nextDoc); err != nil {
		t.Fatal(err)
	}
	sub := dc.entry(t, "CN=T,CN=S,CN=DFSR-LocalSettings,CN=FS2,CN=Computers,"+dc.base)
	for k, want := range map[string]string{"msDFSR-StagingSizeInMb": "8192", "msDFSR-ReadOnly": "TRUE", "msDFSR-StagingPath": `E:\Staging`, "msDFSR-RootPath": `F:\Handbook`} {
		if got := sub.one(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if c := dc.entry(t, "CN=C2,CN=M2,CN=Topology,CN=Corp Documents,"+globalDN(dc.base)); c == nil || c.one("msDFSR-RdcEnabled") != "FALSE" {
		t.Errorf("the connection that was there is %+v", c)
	}
}

func until(t testing.TB, seen <-chan *directory.Domain, good func(*directory.Domain) bool) *directory.Domain {
	t.Helper()
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	for {
		select {
		case d := <-seen:
			if good(d) {
				return d
			}
		case <-timer.C:
			t.Fatal("not seen within 20 s")
		}
	}
}

// Ours are well-formed to the tools of others: each object has its class, its place
// and what MS-FRS2 section 2.3 says that it must have; and without what only we
// know they are read as the same groups.
func TestOursAreWellFormed(t *testing.T) {
	dc := needController(t)
	dc.clear(t)
	first := directorytest.First(t)
	s := dc.openAt(t, first, nil)
	d := directorytest.Load(t, s).Domain
	var snap *snapshot
	dc.do(t, func(c *ldap.Conn) (err error) { snap, err = take(c, dc.base, nil); return err })
	classes := make(map[string]int)
	for _, o := range snap.objects {
		for class, must := range map[string][]string{
			classGroup: {"msDFSR-ReplicationGroupType"}, classMember: {"msDFSR-ComputerReference"}, classConnection: {"fromServer", "msDFSR-Enabled"},
			classSubscriber: {"msDFSR-ReplicationGroupGuid", "msDFSR-MemberReference"}, classSubscription: {"msDFSR-ReplicationGroupGuid", "msDFSR-ContentSetGuid", "msDFSR-RootPath", "msDFSR-StagingPath"},
			classContent: nil, classTopology: nil, classFolder: nil, classLocal: nil,
		} {
			if !o.isA(class) {
				continue
			}
			classes[class]++
			for _, a := range must {
				if !o.has(a) {
					t.Errorf("%s has no %s", o.dn, a)
				}
			}
		}
		if b := o.one("msDFSR-Schedule"); b != "" && len(b) != schedule.BlobSize {
			t.Errorf("the schedule of %s has %d bytes", o.dn, len(b))
		}
	}
	for class, want := range map[string]int{
		classGroup: 3, classContent: 3, classTopology: 3, classFolder: 4, classMember: 8, classConnection: 6 + 2 + 3, classLocal: 3, classSubscriber: 8, classSubscription: 3 + 2 + 2 + 3,
	} {
		if classes[class] != want {
			t.Errorf("%d objects of %s, want %d", classes[class], class, want)
		}
	}
	connection := snap
	connection.read(d)
	hub, branch := d.ServerByName("hub"), d.ServerByName("branch")
	c := connection.keys[keyConnection(d.GroupByName("projects").ID, hub.ID, branch.ID)]
	if c == nil || len(c.one("msDFSR-Schedule")) != schedule.BlobSize || c.one("msDFSR-Options") != "0" {
		t.Errorf("the connection with a schedule in UTC is %+v", c)
	}

	raw := snap.read(nil)
	for _, want := range d.Groups {
		got := raw.GroupByName(want.Name)
		if got == nil || got.ID != want.ID || len(got.Folders) != len(want.Folders) || len(got.Exceptions) != len(want.Exceptions) {
			t.Fatalf("group %s is read as %+v", want.Name, got)
		}
		for i, f := range want.Folders {
			if g := got.Folders[i]; g.ID != f.ID || g.Name != f.Name || len(g.Members) != len(f.Members) {
				t.Errorf("folder %s is read as %+v", f.Name, g)
			}
			for j, m := range f.Members {
				g := got.Folders[i].Members[j]
				if g.ID != m.ID || g.Path != m.Path || g.Primary != m.Primary || g.ReadOnly != m.ReadOnly || g.Enabled != m.Enabled || g.Server != m.Server {
					t.Errorf("membership %s@%s is read as %+v, want %+v", f.Name, m.Server, g, m)
				}
			}
		}
	}
	if got := raw.GroupByName("software").Topology; got.Kind == directory.Custom {
		t.Errorf("hubs are read as %+v", got)
	}
}

// What somebody else changes with other tools is the next generation, of that and
// nothing more.
func TestForeignChangesAreTaken(t *testing.T) {
	dc := needController(t)
	dc.clear(t)
	first := directorytest.First(t)
	o := dc.settings(first.Domain.ID)
	problems := make(chan error, 100)
	o.Problem = func(err error) {
		select {
		case problems <- err:
		default:
		}
	}
	s, err := Open(t.Context(), o, first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	seen := s.Watch(t.Context())
	before := directorytest.Load(t, s)
	docs := before.Domain.GroupByName("projects").FolderByName("docs")
	var snap *snapshot
	dc.do(t, func(c *ldap.Conn) (err error) {
		if snap, err = take(c, dc.base, nil); err == nil {
			snap.read(before.Domain)
		}
		return err
	})
	dc.modify(t, snap.keys[keyMembership(docs.Member("branch").ID)].dn, "msDFSR-RootPath", "/srv/elsewhere")
	d := until(t, seen, func(d *directory.Domain) bool { return d.Generation == 2 })
	if changes := directory.Diff(before.Domain, d); len(changes) != 1 || changes[0].String() != "membership projects/docs@branch: path /srv/my docs -> /srv/elsewhere" {
		t.Errorf("changes: %v", changes)
	}
	if text := string(directorytest.Load(t, s).Text()); !strings.Contains(text, "# the machine in the cellar") || !strings.Contains(text, "staging-quota: 5000MiB") {
		t.Errorf("what only we know is lost:\n%s", text)
	}

	dc.do(t, func(c *ldap.Conn) error {
		return c.ModifyDN(ldap.NewModifyDNRequest("CN=software,"+globalDN(dc.base), "CN=Programs", true, ""))
	})
	d = until(t, seen, func(d *directory.Domain) bool { return d.Generation == 3 })
	if g := d.GroupByName("Programs"); g == nil || g.ID != before.Domain.GroupByName("software").ID {
		t.Errorf("after a rename the groups are %v", d.Groups)
	}

	// What cannot be is told, and stays out.
	dc.modify(t, snap.keys[keyMembership(docs.Member("branch").ID)].dn, "msDFSR-RootPath", "not/absolute")
	for err := range problems {
		if err != nil {
			if !strings.Contains(err.Error(), "is relative") {
				t.Errorf("told is %v", err)
			}
			break
		}
	}
	if now := directorytest.Load(t, s); now.Domain.Generation != 3 {
		t.Errorf("what cannot be is generation %d", now.Domain.Generation)
	}
}

// A change that was interrupted is finished by whoever comes next: the objects say
// what the domain says.
func TestAnInterruptedChangeIsFinished(t *testing.T) {
	dc := needController(t)
	dc.clear(t)
	first := directorytest.First(t)
	stop := errors.New("stop")
	steps := 0
	s := dc.openAt(t, first, nil)
	doc := directorytest.Load(t, s)
	d := doc.Domain.Clone()
	d.Groups = d.Groups[1:]
	d.Groups[0].Name = "renamed"
	next, err := doc.With(d)
	if err != nil {
		t.Fatal(err)
	}
	crashing := dc.openAt(t, first, func(string) error {
		if steps++; steps > 2 {
			return stop
		}
		return nil
	})
	if _, err := crashing.Update(t.Context(), 1, next); !errors.Is(err, stop) {
		t.Fatalf("the change ended with %v", err)
	}
	if o := dc.entry(t, stateDN(dc.base)); !strings.Contains(o.one("keywords"), "state=pending") {
		t.Fatalf("after the interruption the stamp is %s", o.one("keywords"))
	}
	again := dc.openAt(t, first, nil)
	if now := directorytest.Load(t, again).Domain; len(now.Groups) != 2 || now.GroupByName("renamed") == nil {
		t.Errorf("the groups are %v", now.Groups)
	}
	var snap *snapshot
	dc.do(t, func(c *ldap.Conn) (err error) { snap, err = take(c, dc.base, nil); return err })
	if raw := snap.read(nil); len(raw.Groups) != 2 || raw.GroupByName("renamed") == nil {
		t.Errorf("the objects say %v", raw.Groups)
	}
	if o := dc.entry(t, stateDN(dc.base)); !strings.Contains(o.one("keywords"), "state=clean") {
		t.Errorf("the stamp is %s", o.one("keywords"))
	}
}

// What stands in the way, a wrong password and a certificate of nobody's are told.
func TestWhyActiveDirectoryCannotBeUsed(t *testing.T) {
	dc := needController(t)
	dc.existing(t)
	first := directorytest.First(t)
	for name, c := range map[string]struct {
		change func(*Settings)
		want   string
	}{
		"password": {func(o *Settings) { o.Password = "wrong" }, "NAME@DOMAIN"},
		"ca":       {func(o *Settings) { o.CA = nil }, "certificate signed by unknown authority"},
		"host":     {func(o *Settings) { o.URL = "ldaps://other.example" }, "not other.example"},
		"absent":   {func(*Settings) {}, "dfs directory move"},
	} {
		o := dc.settings(first.Domain.ID)
		c.change(&o)
		if _, err := Open(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dc.ldif(t, "dn: CN=projects,CN=DFSR-GlobalSettings,CN=System\nobjectClass: msDFSR-ReplicationGroup\nmsDFSR-ReplicationGroupType: 0")
	if _, err := Open(t.Context(), dc.settings(first.Domain.ID), first); err == nil || !strings.Contains(err.Error(), "rename ours or that one") {
		t.Errorf("with a group of the same name: %v", err)
	}
	if o := dc.entry(t, stateDN(dc.base)); o != nil {
		t.Error("a move that was refused has left something")
	}
}

// A domain controller that lets nobody in by a simple bind is told from a wrong
// password, each with what to do.
func TestWhoIsNotLetInReadsWhy(t *testing.T) {
	for code, want := range map[uint16]string{
		ldap.LDAPResultStrongAuthRequired:          "allow this account simple binds inside TLS",
		ldap.LDAPResultInappropriateAuthentication: "allow this account simple binds inside TLS",
		ldap.LDAPResultUnwillingToPerform:          "a Kerberos bind wants signing or sealing",
		ldap.LDAPResultInvalidCredentials:          "Protected Users",
	} {
		said := ldap.NewError(code, errors.New("BindSimple: Transport encryption required"))
		if got := refusal(said); !errors.Is(got, said) || !strings.Contains(got.Error(), want) || !strings.Contains(got.Error(), "Transport encryption required") {
			t.Errorf("%d: %v", code, got)
		}
	}
	if busy := ldap.NewError(ldap.LDAPResultBusy, errors.New("busy")); refusal(busy) != error(busy) {
		t.Error("a busy domain controller is no refusal")
	}
}

func TestNamesAndPaths(t *testing.T) {
	taken := make(map[string]bool)
	for _, c := range []struct{ cn, want string }{{"docs", "docs"}, {"Corp Documents", "Corp-Documents"}, {"Größe", "Gr--e"}, {"docs", "docs-2"}, {"(x)", "x"}, {"", "x-2"}, {"- -", "x-3"}} {
		if got := nameOf(c.cn, taken); got != c.want {
			t.Errorf("%q is %q, want %q", c.cn, got, c.want)
		}
	}
	for ours, theirs := range map[string]string{"/srv/docs": "/srv/docs", "/D:/Data/x": `D:\Data\x`, "/d:": "d:"} {
		if got := pathToAD(ours); got != theirs {
			t.Errorf("%s is written %s, want %s", ours, got, theirs)
		}
		if got := pathFromAD(theirs); got != ours {
			t.Errorf("%s is read %s, want %s", theirs, got, ours)
		}
	}
}

// Whatever stands in the object of ours is read or refused.
func FuzzUnpack(f *testing.F) {
	doc, err := directory.Read([]byte("version: 1\ndomain: corp\n"), "domain.yaml")
	if err != nil {
		f.Fatal(err)
	}
	good, err := pack(doc, kindText)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good[0]), []byte("B\x00\x00x"))
	f.Add([]byte("T\x00\x01"), []byte(""))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got, err := unpack([]string{string(a), string(b)}, kindText)
		if err == nil && got.Domain.Name == "" {
			t.Errorf("read as %+v", got.Domain)
		}
	})
}
