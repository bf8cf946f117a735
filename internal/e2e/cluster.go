package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// topology says who is connected with whom.
type topology string

const (
	mesh  topology = "full-mesh"
	chain topology = "chain"         // each with the next
	spoke topology = "hub-and-spoke" // each with the first
)

// family is how members are addressed.
type family string

const (
	ipv4   family = "IPv4"
	ipv6   family = "IPv6"
	byName family = "name"
)

// plan is what a cluster is made of; its zero fields have defaults.
type plan struct {
	members  int // 2
	shape    topology
	family   family
	size     int64  // of each filesystem image, 4 GiB
	kind     string // of the images, ext4
	backing  string // where the images lie, the work directory
	disabled bool   // all members but the first are enabled later
	filters  string // a flow mapping, for instance {files: []}
	options  string // of the folder, lines of the domain file without their indent
	humble   int    // this member, counted from 1, runs without privileges
}

// folder is the replicated folder of every story.
const folder = "projects/docs"

// cluster is a domain: members on a network, with one folder.
type cluster struct {
	t       testing.TB
	plan    plan
	net     *network
	members []*member
	trees   []*image // trees[i] holds the root of members[i]
	states  []*image // states[i] holds the state directory of members[i]
	enabled []bool
	listen  map[string]string // by server, where it is not where it is reached
}

var serverNames = []string{"hub", "branch", "depot", "yard"}

// newCluster makes hosts, disks, states, identities: everything but daemons and content.
func newCluster(t testing.TB, p plan) *cluster {
	t.Helper()
	program(t)
	needRoot(t, "ip", "losetup", "rsync")
	p.fill()
	c := &cluster{t: t, plan: p}
	dir := workDir(t)
	if p.backing == "" {
		p.backing = dir
	}
	c.net = newNetwork(t, serverNames[:p.members]...)
	c.net.named = p.family == byName
	for i, h := range c.net.hosts {
		base := filepath.Join(dir, h.name)
		tree := newImage(t, p.kind, filepath.Join(p.backing, h.name+"-tree.img"), filepath.Join(base, "srv"), p.size)
		state := newImage(t, "ext4", filepath.Join(p.backing, h.name+"-state.img"), filepath.Join(base, "var"), p.size)
		m := newMember(t, h.name, h, p.family.address(h), filepath.Join(tree.point, "docs"), filepath.Join(state.point, "dfs"))
		if p.humble == i+1 {
			m.humble()
		}
		c.trees, c.states, c.members = append(c.trees, tree), append(c.states, state), append(c.members, m)
		c.enabled = append(c.enabled, i == 0 || !p.disabled)
	}
	c.found()
	return c
}

// newLocal makes two members on this machine's loopback, in plain directories: what anybody can run. Run by root it gives root away, so that
// it is the same story.
func newLocal(t testing.TB) *cluster {
	t.Helper()
	program(t)
	c := &cluster{t: t, plan: plan{members: 2}}
	c.plan.fill()
	dir := workDir(t)
	for _, name := range serverNames[:2] {
		base := filepath.Join(dir, name)
		m := newMember(t, name, nil, freePort(t), filepath.Join(base, "srv", "docs"), filepath.Join(base, "var", "dfs"))
		m.options = []string{"--metrics", "off"}
		if os.Geteuid() == 0 {
			m.humble()
		}
		c.members, c.enabled = append(c.members, m), append(c.enabled, true)
	}
	c.found()
	return c
}

// freePort is an address on loopback that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (p *plan) fill() {
	if p.members == 0 {
		p.members = 2
	}
	if p.shape == "" {
		p.shape = mesh
	}
	if p.family == "" {
		p.family = ipv4
	}
	if p.size == 0 {
		p.size = 4 * gib
	}
	if p.kind == "" {
		p.kind = "ext4"
	}
}

func (f family) address(h *host) string {
	switch f {
	case ipv6:
		return "[" + h.v6 + "]:7440"
	case byName:
		return h.name + ".example:7440"
	}
	return h.v4 + ":7440"
}

// found makes the domain: the first server by init, the others by invitation. Afterwards every daemon runs.
func (c *cluster) found() {
	c.t.Helper()
	hub := c.members[0]
	hub.must("init", "--domain", "corp", "--server", hub.name, "--address", hub.address)
	hub.start()
	for _, m := range c.members[1:] {
		token := strings.TrimSpace(hub.must("invite", m.name))
		if token == "" || strings.ContainsAny(token, " \n") {
			c.t.Fatalf("`dfs invite` prints the token alone; it printed %q", token)
		}
		m.must("join", token, "--address", m.address)
		m.start()
	}
}

// domain is the domain file that describes the cluster, without ids: they are kept by name.
func (c *cluster) domain() string {
	var b strings.Builder
	b.WriteString("version: 1\ndomain: corp\nservers:\n")
	for _, m := range c.members {
		addresses := m.addresses
		if len(addresses) == 0 {
			addresses = []string{m.address}
		}
		listen := ""
		if l := c.listen[m.name]; l != "" {
			listen = fmt.Sprintf(", listen: [%q]", l)
		}
		fmt.Fprintf(&b, "  %s: {address: [\"%s\"]%s}\n", m.name, strings.Join(addresses, `", "`), listen)
	}
	fmt.Fprintf(&b, "groups:\n  projects:\n    topology: %s\n    folders:\n      docs:\n", c.topology())
	if c.plan.filters != "" {
		fmt.Fprintf(&b, "        filters: %s\n", c.plan.filters)
	}
	for option := range strings.Lines(c.plan.options) {
		b.WriteString("        " + strings.TrimSpace(option) + "\n")
	}
	b.WriteString("        members:\n")
	for i, m := range c.members {
		fmt.Fprintf(&b, "          %s: {path: %s, primary: %v, enabled: %v}\n", m.name, m.root, i == 0, c.enabled[i])
	}
	return b.String()
}

func (c *cluster) topology() string {
	hub := c.members[0].name
	switch c.plan.shape {
	case chain:
		var links []string
		for i, m := range c.members[1:] {
			up := c.members[i].name
			links = append(links, fmt.Sprintf("%q, %q", up+"->"+m.name, m.name+"->"+up))
		}
		return "{connections: [" + strings.Join(links, ", ") + "]}"
	case spoke:
		return "{hub-and-spoke: {hubs: [" + hub + "]}}"
	}
	return "full-mesh"
}

// apply makes the domain follow what the cluster says.
func (c *cluster) apply() {
	c.t.Helper()
	file := filepath.Join(workDir(c.t), "domain.yaml")
	if err := os.WriteFile(file, []byte(c.domain()), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.members[0].must("apply", "-f", file)
}

// wait holds every member to `dfs status --wait`, all of them within limit. Two rounds, because a change travels on from member to
// member and each round speaks of one member and its partners.
func (c *cluster) wait(limit time.Duration) {
	c.t.Helper()
	end := time.Now().Add(limit)
	for range 2 {
		for _, m := range c.members {
			left := max(time.Until(end), time.Second).Round(time.Millisecond)
			if out, err := m.dfs("status", "--wait", "--timeout", left.String()); err != nil {
				c.complain()
				c.t.Fatalf("`dfs status --wait` on %s within %v: %v\n%s", m.name, limit, err, out)
			}
		}
	}
}

// complain shows what every member says of itself.
func (c *cluster) complain() {
	for _, m := range c.members {
		if out, err := m.dfs("status"); err == nil {
			c.t.Logf("status of %s:\n%s", m.name, out)
		} else {
			c.t.Logf("status of %s: %v", m.name, err)
		}
	}
}

// tellAbout shows what every member knows of one file.
func (c *cluster) tellAbout(rel string) {
	for _, m := range c.members {
		record, err := m.dfs("record", folder+":"+rel)
		explained, err2 := m.dfs("explain", folder+":"+rel)
		c.t.Logf("%s on %s:\n%s%s%v %v", rel, m.name, record, explained, err, err2)
	}
}

// stop and start are for all daemons.
func (c *cluster) stop() {
	c.t.Helper()
	for _, m := range c.members {
		m.stop()
	}
}

func (c *cluster) start() {
	c.t.Helper()
	for _, m := range c.members {
		m.start()
	}
}

// roots of all members, the first one's first.
func (c *cluster) roots() []string {
	var out []string
	for _, m := range c.members {
		out = append(out, m.root)
	}
	return out
}

// converged checks what holds at rest: trees equal, looked at twice, and vectors equal.
func (c *cluster) converged() {
	c.t.Helper()
	for _, root := range c.roots()[1:] {
		equalTrees(c.t, c.roots()[0], root)
	}
	c.equalVectors()
}
