package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// syncthing is a rival with two daemons, a on the first filesystem of a pair and b on the second.
type syncthing struct {
	p    *pair
	ids  [2]string
	keys [2]string
}

var (
	syncthingID  = regexp.MustCompile(`<device id="([A-Z0-9-]+)"`)
	syncthingKey = regexp.MustCompile(`<apikey>([^<]+)</apikey>`)
)

// newSyncthing makes identities and one shared folder with the shortest delay that the watcher allows, and starts both daemons.
func newSyncthing(p *pair) *syncthing {
	t := p.t
	t.Helper()
	s := &syncthing{p: p}
	for i := range s.ids {
		must(t, "syncthing", "generate", "--no-default-folder", "--home="+s.home(i))
		text, err := os.ReadFile(filepath.Join(s.home(i), "config.xml"))
		if err != nil {
			t.Fatal(err)
		}
		id, key := syncthingID.FindSubmatch(text), syncthingKey.FindSubmatch(text)
		if id == nil || key == nil {
			t.Fatalf("no id or key in Syncthing's config:\n%s", text)
		}
		s.ids[i], s.keys[i] = string(id[1]), string(key[1])
	}
	for i, h := range p.net.hosts {
		if err := os.WriteFile(filepath.Join(s.home(i), "config.xml"), []byte(s.config(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(s.root(i), ".stfolder"), 0o755); err != nil {
			t.Fatal(err)
		}
		p.daemon(h, "syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade", "--home="+s.home(i))
	}
	for _, h := range p.net.hosts {
		p.listening(h, 8384)
	}
	return s
}

func (s *syncthing) home(i int) string { return filepath.Join(s.p.dir, fmt.Sprintf("syncthing-%d", i)) }

func (s *syncthing) root(i int) string {
	return filepath.Join([]*image{s.p.a, s.p.b}[i].point, "docs")
}

func (s *syncthing) config(i int) string {
	devices, members := "", ""
	for j, id := range s.ids {
		devices += fmt.Sprintf("<device id=%q name=\"d%d\"><address>tcp://%s:22000</address></device>\n", id, j, s.p.net.hosts[j].v4)
		members += fmt.Sprintf("<device id=%q></device>\n", id)
	}
	return fmt.Sprintf(`<configuration version="35">
<folder id="docs" label="docs" path=%q type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1" ignorePerms="false">
<filesystemType>basic</filesystemType>%s<minDiskFree unit="%%">1</minDiskFree></folder>
%s<gui enabled="true" tls="false"><address>127.0.0.1:8384</address><apikey>%s</apikey></gui>
<options><listenAddress>tcp://0.0.0.0:22000</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>1</reconnectionIntervalS></options>
</configuration>
`, s.root(i), members, devices, s.keys[i])
}

// done waits until b needs nothing and has the files.
func (s *syncthing) done(t testing.TB, files int, limit time.Duration) {
	t.Helper()
	args := s.p.net.hosts[1].command("curl", "-s", "-H", "X-API-Key: "+s.keys[1], "http://127.0.0.1:8384/rest/db/status?folder=docs")
	eventually(t, limit, "Syncthing is in sync", func() bool {
		<-time.After(200 * time.Millisecond)
		out, err := try(args[0], args[1:]...)
		var st struct {
			State      string `json:"state"`
			LocalFiles int    `json:"localFiles"`
			NeedFiles  int    `json:"needFiles"`
		}
		return err == nil && json.Unmarshal([]byte(out), &st) == nil && st.State == "idle" && st.NeedFiles == 0 && st.LocalFiles >= files
	})
}
