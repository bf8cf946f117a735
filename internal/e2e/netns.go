package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// netnsPrefix begins the name of each namespace; the id of the owning process follows.
const netnsPrefix = "dfse2e-"

var netnsCount atomic.Int64

// network is a switch (a bridge in a namespace of its own) with hosts on it. Nothing of the machine's own network is touched.
type network struct {
	t     testing.TB
	sw    string // the namespace of the switch
	hosts []*host
	named bool // programs see the hosts' names, and a copy of the mounts
}

// host is one network namespace with one link, its interface lan0.
type host struct {
	net    *network
	name   string // what /etc/hosts of every namespace calls it
	ns     string
	port   string // the switch's end of the link
	v4, v6 string
	run    string // what the host's programs find as /run/samba; empty: this machine's
}

// newNetwork makes a switch and a host for each name, with addresses 10.77.0.N and fd77::N.
func newNetwork(t testing.TB, names ...string) *network {
	t.Helper()
	needRoot(t, "ip", "tc")
	n := &network{t: t, sw: netnsName("sw")}
	t.Cleanup(n.remove)
	n.add(n.sw)
	n.ip(n.sw, "link", "add", "br0", "type", "bridge")
	n.ip(n.sw, "link", "set", "br0", "up")
	for i, name := range names {
		n.hosts = append(n.hosts, n.host(name, i+1))
	}
	n.writeHosts()
	return n
}

func netnsName(what string) string {
	return fmt.Sprintf("%s%d-%d-%s", netnsPrefix, os.Getpid(), netnsCount.Add(1), what)
}

func (n *network) add(ns string) {
	n.t.Helper()
	must(n.t, "ip", "netns", "add", ns)
	n.ip(ns, "link", "set", "lo", "up")
}

// ip runs ip(8) inside a namespace.
func (n *network) ip(ns string, args ...string) {
	n.t.Helper()
	must(n.t, "ip", append([]string{"-n", ns}, args...)...)
}

func (n *network) host(name string, number int) *host {
	n.t.Helper()
	h := &host{
		net: n, name: name, ns: netnsName(name), port: "port" + strconv.Itoa(number),
		v4: fmt.Sprintf("10.77.0.%d", number), v6: fmt.Sprintf("fd77::%d", number),
	}
	n.add(h.ns)
	n.ip(n.sw, "link", "add", h.port, "type", "veth", "peer", "name", "lan0", "netns", h.ns)
	n.ip(n.sw, "link", "set", h.port, "master", "br0", "up")
	n.ip(h.ns, "addr", "add", h.v4+"/24", "dev", "lan0")
	n.ip(h.ns, "addr", "add", h.v6+"/64", "dev", "lan0", "nodad")
	n.ip(h.ns, "link", "set", "lan0", "up")
	return h
}

// lay gives a host a file of its own over one of /etc: `ip netns exec` binds what lies in /etc/netns/NAME there.
func (h *host) lay(name, text string) {
	h.net.t.Helper()
	dir := filepath.Join("/etc/netns", h.ns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.net.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { // in place: it may be mounted
		h.net.t.Fatal(err)
	}
}

// writeHosts names every host to every host.
func (n *network) writeHosts() {
	n.t.Helper()
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for _, h := range n.hosts {
		text += h.v4 + " " + h.name + ".example\n" + h.v6 + " " + h.name + ".example\n"
	}
	for _, h := range n.hosts {
		h.lay("hosts", text)
	}
}

func (n *network) remove() {
	for _, h := range n.hosts {
		removeNetns(h.ns)
	}
	removeNetns(n.sw)
}

func removeNetns(ns string) {
	_, _ = try("ip", "netns", "del", ns)
	_ = os.RemoveAll(filepath.Join("/etc/netns", ns))
}

// cut takes the host off the network, without a word to anyone: its own end of the link stays up.
func (h *host) cut() { h.net.t.Helper(); h.net.ip(h.net.sw, "link", "set", h.port, "nomaster") }

// heal puts it back.
func (h *host) heal() { h.net.t.Helper(); h.net.ip(h.net.sw, "link", "set", h.port, "master", "br0") }

// shape bounds what the host sends and what it is sent, for instance "1gbit".
func (h *host) shape(rate string) {
	h.net.t.Helper()
	tbf := []string{"root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"}
	must(h.net.t, "tc", append([]string{"-n", h.ns, "qdisc", "replace", "dev", "lan0"}, tbf...)...)
	must(h.net.t, "tc", append([]string{"-n", h.net.sw, "qdisc", "replace", "dev", h.port}, tbf...)...)
}

// wireBytes is what went over the host's link so far, both ways, headers included.
func (h *host) wireBytes() int64 { return h.linkBytes("rx_bytes") + h.linkBytes("tx_bytes") }

// sentBytes is what the host sent over its link so far, headers included.
func (h *host) sentBytes() float64 { return float64(h.linkBytes("tx_bytes")) }

func (h *host) linkBytes(way string) int64 {
	h.net.t.Helper()
	text := must(h.net.t, "ip", "netns", "exec", h.ns, "cat", "/sys/class/net/lan0/statistics/"+way)
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		h.net.t.Fatal(err)
	}
	return n
}

// command is a program's command line inside the host; a nil host is this machine. It sees the mounts of this machine, as they come and go,
// unless hosts are called by name: those stand in a mount namespace of their own.
func (h *host) command(args ...string) []string {
	switch {
	case h == nil:
		return args
	case h.net.named && h.run != "":
		return append([]string{"ip", "netns", "exec", h.ns, "sh", "-c", `mount --bind "$0" /run/samba && exec "$@"`, h.run}, args...)
	case h.net.named:
		return append([]string{"ip", "netns", "exec", h.ns}, args...)
	}
	return append([]string{"nsenter", "--net=/run/netns/" + h.ns}, args...)
}
