package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"opendfs/internal/directory"
)

const membershipsJSON = `[
  {"GroupName": "Projects 2024", "ComputerName": "HUB.corp.example", "FolderName": "Docs", "GroupDomainName": "corp.example", "Identifier": "9931c757-b252-4f04-8347-53575610c00d",
   "ContentPath": "D:\\Data\\Docs", "PrimaryMember": true, "StagingPath": "D:\\Data\\Docs\\DfsrPrivate\\Staging", "StagingPathQuotaInMB": 32768, "MinimumFileStagingSize": 0,
   "ConflictAndDeletedQuotaInMB": 4, "ReadOnly": false, "RemoveDeletedFiles": false, "Enabled": true, "State": 1},
  {"GroupName": "Projects 2024", "ComputerName": "BRANCH", "FolderName": "Docs", "ContentPath": "e:\\Docs", "PrimaryMember": false, "StagingPathQuotaInMB": 4096,
   "ConflictAndDeletedQuotaInMB": 4096, "ReadOnly": true, "Enabled": false},
  {"GroupName": "Projects 2024", "ComputerName": "LAB", "FolderName": "Docs", "ContentPath": "", "Enabled": false},
  {"GroupName": "Domain System Volume", "ComputerName": "DC1", "FolderName": "SYSVOL Share", "ContentPath": "C:\\Windows\\SYSVOL\\domain"}
]`

const foldersList = `

GroupName              : Projects 2024
FolderName             : Docs
Description            :
FileNameToExclude      : {~*, *.bak, *.iso}
DirectoryNameToExclude : {cache}
DfsnPath               :

`

const connectionsJSON = `{"GroupName": "Projects 2024", "SourceComputerName": "HUB", "DestinationComputerName": "BRANCH", "Enabled": true, "RdcEnabled": true}
{"GroupName": "Projects 2024", "SourceComputerName": "BRANCH", "DestinationComputerName": "HUB", "Enabled": true}
{"GroupName": "Projects 2024", "SourceComputerName": "HUB", "DestinationComputerName": "LAB", "Enabled": true}
{"GroupName": "Projects 2024", "SourceComputerName": "LAB", "DestinationComputerName": "HUB", "Enabled": true}
`

// dfsradmin's tables do not name their group.
const radminTables = `MemName  RfName  LocalPath          IsPrimary  IsEnabled
HUB      Tools   F:\Soft ware\Tool  Yes        Yes
BRANCH   Tools   F:\Tools           No         Yes

Command completed successfully.

SendMem  RecvMem  ConnEnabled
HUB      BRANCH   Yes
BRANCH   HUB      No

Command completed successfully.
`

func inUTF16(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(strings.ReplaceAll(s, "\n", "\r\n"))) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// What Windows' tools print becomes a domain file that can be applied.
func TestMigrate(t *testing.T) {
	hub := initialised(t)
	dir := t.TempDir()
	week := strings.Repeat("0", 96) + strings.Repeat("\n"+strings.Repeat("7", 96), 5) + "\n" + strings.Repeat("F", 96)
	for name, text := range map[string]string{
		"m.json": membershipsJSON, "f.txt": inUTF16(foldersList), "c.json": "\ufeff" + connectionsJSON, "t.txt": radminTables,
		"s.csv": "#TYPE x\n\"GroupName\",\"UseUTC\",\"BandwidthDetail\"\n\"Projects 2024\",\"True\",\"" + strings.ReplaceAll(week, "\n", " ") + "\"\n",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	at := func(names ...string) []string {
		for i, n := range names {
			names[i] = filepath.Join(dir, n)
		}
		return names
	}
	out := filepath.Join(dir, "new.yaml")
	hub.must(append([]string{"migrate", "dfsradmin", "--group", "Tools", "--path", `D:\Data=/data`, "-o", out}, at("m.json", "f.txt", "c.json", "t.txt", "s.csv")...)...)
	text := read(t, out)
	doc, err := directory.Read([]byte(text), out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	g := doc.Domain.GroupByName("Projects-2024")
	if g == nil || g.Topology.Kind != directory.HubAndSpoke || len(g.Topology.Hubs) != 1 || g.Topology.Hubs[0] != "hub" || g.Schedule.String() != "utc; sat full; sun closed; else 2mbps" {
		t.Fatalf("group %+v, schedule %v", g, g.Schedule)
	}
	f := g.FolderByName("Docs")
	if f == nil || strings.Join(f.Filters.Files, " ") != "~* *.bak *.iso" || strings.Join(f.Filters.Directories, " ") != "cache" || len(f.Members) != 2 {
		t.Fatalf("folder %+v", f)
	}
	h, b := f.Member("hub"), f.Member("branch")
	if h.Path != "/data/Docs" || !h.Primary || h.StagingQuota != 32*directory.GiB || h.ConflictQuota != 10*directory.MiB || !h.Enabled {
		t.Errorf("hub %+v", h)
	}
	if b.Path != "/srv/e/Docs" || b.Primary || !b.ReadOnly || b.Enabled || b.StagingQuota != 4*directory.GiB {
		t.Errorf("branch %+v", b)
	}
	tools := doc.Domain.GroupByName("Tools")
	if tools == nil || tools.Topology.Kind != directory.Custom || len(tools.Topology.Links) != 2 || tools.Topology.Linked("branch", "hub") || !tools.Topology.Linked("hub", "branch") ||
		tools.FolderByName("Tools").Member("hub").Path != "/srv/f/Soft ware/Tool" {
		t.Errorf("tools %+v", tools)
	}
	for _, want := range []string{"group Projects 2024 is called Projects-2024 here", `Docs@branch: e:\Docs is /srv/e/Docs here`, "Docs@lab is left out", "SYSVOL", "# The domain: servers"} {
		if !strings.Contains(text, want) {
			t.Errorf("the file does not say %q:\n%s", want, text)
		}
	}
	if out := hub.must("apply", "-f", out); !strings.Contains(out, "add folder Projects-2024/Docs") {
		t.Errorf("applied:\n%s", out)
	}
	hub.refused(exitFailed, "in the domain already", "migrate", "dfsradmin", filepath.Join(dir, "m.json"))
	if out := newSite(t, "x").must("migrate", "dfsradmin", "--domain", "corp", filepath.Join(dir, "m.json")); !strings.Contains(out, "domain: corp") {
		t.Errorf("from an empty domain:\n%s", out)
	}
	hub.refused(exitFailed, "--group", "migrate", "dfsradmin", "--domain", "d", filepath.Join(dir, "t.txt"))
	hub.refused(exitUsage, "--path", "migrate", "dfsradmin", "--path", "x", filepath.Join(dir, "t.txt"))
	for _, c := range []struct{ text, want string }{
		{"", "empty"}, {"{", "JSON is broken"}, {"[1]", "json.Number"}, {"\xff\x00\x01", "neither UTF-8"}, {"[]", "no object"},
		{`{"GroupName":"g","FolderName":"f","ComputerName":"c","ContentPath":"\\\\x\\y"}`, "--path"},
		{`{"GroupName":"g","FolderName":"f","ComputerName":"c","ContentPath":"D:\\"}`, "whole drive"},
		{`{"GroupName":"g","FolderName":"f","ComputerName":"c","ContentPath":"D:\\x","StagingPathQuotaInMB":"much"}`, "megabytes"},
		{`{"GroupName":"g","SourceComputerName":"c"}`, "nobody that receives"}, {`{"GroupName":"g","BandwidthDetail":"FF"}`, "has 336"},
	} {
		put(t, filepath.Join(dir, "bad"), c.text)
		hub.refused(exitFailed, c.want, "migrate", "dfsradmin", "--domain", "d", filepath.Join(dir, "bad"))
	}
	if _, err := os.Stat(out + "2"); err == nil {
		t.Error("a refused migration wrote a file")
	}
}

func FuzzReadMigration(f *testing.F) {
	for _, s := range []string{membershipsJSON, foldersList, connectionsJSON, radminTables, inUTF16(radminTables), "a,b\n1,\"2\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := readMigration(b)
		if err != nil {
			return
		}
		m := newMigration(&directory.Domain{Name: "d", Term: 1}, "g", nil)
		for _, r := range rows {
			if m.add(r) != nil {
				return
			}
		}
		m.finish()
		if doc, err := directory.NewDocument(m.d); err == nil && doc.Domain == nil {
			t.Error("no domain and no error")
		}
	})
}
