package directory

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is the port that members use among each other when an address
// names none.
const DefaultPort = 7440

// ParseAddress reads one address of a server and gives it with its port, in
// lower case: HOST, HOST:PORT, IPv4, IPv4:PORT, [IPv6] or [IPv6]:PORT. An IPv6
// address needs its brackets, without them its end could be a port.
func ParseAddress(s string) (string, error) { return parseAddress(s, false) }

// ParseListen reads one address on which a server listens. Besides what
// ParseAddress reads it may be without a host (":7440") or the unspecified
// address ("0.0.0.0:7440", "[::]:7440"), and the port may be 0.
func ParseListen(s string) (string, error) { return parseAddress(s, true) }

func parseAddress(s string, listen bool) (string, error) {
	const forms = "write NAME:PORT, IPv4:PORT or [IPv6]:PORT"
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("read address %q: %s; %s", s, why, forms)
	}
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		return "", fmt.Errorf("read address %q: an IPv6 address needs brackets; write [%s]:%d", s, s, DefaultPort)
	}
	host, port := s, strconv.Itoa(DefaultPort)
	switch {
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.Contains(s, ":"):
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return bad("not a host and a port")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listen {
		return bad(fmt.Sprintf("port %q is not a number from 1 to 65535", port))
	}
	host = strings.ToLower(host)
	if why := badHost(host, strings.HasPrefix(s, "["), listen); why != "" {
		return bad(why)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// badHost says what is wrong with a host, or nothing.
func badHost(host string, brackets, listen bool) string {
	if host == "" {
		if listen {
			return ""
		}
		return "the host is missing"
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		switch {
		case ip.Is6() != brackets:
			return "brackets are for IPv6 addresses"
		case ip.IsUnspecified() && !listen:
			return "no partner can reach the unspecified address"
		case ip.IsMulticast():
			return "it is a multicast address"
		case ip.Zone() != "" && !plainWord(ip.Zone()):
			return "the zone is not the name of an interface"
		}
		return ""
	}
	if brackets {
		return "not an IPv6 address"
	}
	if len(host) > 253 {
		return "the name is longer than 253 bytes"
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || !plainWord(l) || strings.Contains(l, ".") || l[0] == '-' || l[len(l)-1] == '-' {
			return fmt.Sprintf("%q is not a host name", host)
		}
	}
	if _, err := strconv.ParseUint(labels[len(labels)-1], 10, 64); err == nil {
		return fmt.Sprintf("%q is neither an IPv4 address nor a host name", host)
	}
	return ""
}

// plainWord says that s is letters, digits, '_', '-' and '.' of ASCII.
func plainWord(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
