package tidy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// kind says which bans beyond the order hold for a layer.
type kind int

const (
	// pure: sees no clock, randomness, file or socket, so that a run is its inputs.
	pure kind = iota
	// edge: hides one hostile thing behind a small interface.
	edge
	// step: one station of a change; knows neither the engine nor another step.
	step
	// hub: drives the steps.
	hub
	// face: set-up, namespace and people.
	face
	// testOnly: imported by nobody.
	testOnly
)

// layer is one directory under internal/ and its place in the order.
type layer struct {
	name string
	kind kind
	// why is the reason that this layer knows nothing of what stands below it.
	why string
}

// layers is the order of the house: an entry imports only entries above it.
// Directories below an entry (internal/wire/wirepb) share its place.
var layers = []layer{
	{"digest", pure, "a hash is a function of bytes; it knows nothing of what they are"},
	{"version", pure, "GVSNs and vectors are the ground everything is compared on; they must be checkable by themselves"},
	{"repl", pure, "the nouns are shared by all; a noun that imports a verb makes every package depend on it"},
	{"finding", pure, "any package may raise a finding, so finding may know none of them"},
	{"schedule", pure, "what is allowed now is a function of a table and an instant that is passed in"},
	{"filter", pure, "the same name must be judged alike on every member, so nothing of one machine may enter"},
	{"rdc", pure, "signatures and needs are wire format: bytes in, bytes out, the same everywhere"},
	{"merge", pure, "members converge only if the decision is a function of what both know; no clock, disk or chance may tip it"},
	{"referral", pure, "the order of targets must follow from the namespace and the client alone, to be explained and tested"},

	{"volume", edge, "hides the replicated tree on disk; it serves any policy and therefore knows none"},
	{"preserve", edge, "keeps losers on that disk; what is a loser is decided elsewhere"},
	{"journal", edge, "hides the kernel's change notices; it only marks names dirty and judges nothing"},
	{"wire", edge, "the protocol's messages and bytes, to be read and fuzzed without a socket, a store or a disk"},
	{"directory", edge, "hides where the configuration lives; members read a validated Domain and nothing else"},
	{"pki", edge, "identity and revocation depend on nothing that a peer can cause"},

	{"capture", step, "turns a dirty name into an update; who asked and who is told is the engine's business"},
	{"store", step, "our verbs over the database, one batch a step; callers decide what the batch means"},
	{"staging", step, "makes content ready and keeps its quota; it does not know who will fetch it"},
	{"peer", step, "one authenticated session; what is said in it comes from outside"},
	{"fetch", step, "brings one update's content here; whether it is wanted was decided before"},
	{"install", step, "carries out a plan and reports what came out; it never makes the verdict again by itself"},
	{"engine", hub, "the hub of one folder: the steps are its spokes, set-up and faces see it from outside"},

	{"clone", face, "moves a member's database; replication goes on without it"},
	{"smb", face, "a server of referrals that can be left out of a member whole"},
	{"control", face, "one admin API in front of what stands above; a face has nobody above it but other faces"},
	{"health", face, "reports on what is there, and changes nothing"},
	{"console", face, "pages over control; it may show nothing that the API does not say"},

	{"sim", testOnly, "a simulated world must never be reachable from the product"},
	{"tidy", testOnly, "rules about the code are no part of the code"},
	{"e2e", testOnly, "stories over the finished binary use it from outside"},
}

// banned is an import that only the listed places may use.
type banned struct {
	// prefix matches the import path itself and everything below it.
	prefix string
	// except is the one path below prefix that stays allowed.
	except string
	// only names the layers that may import it.
	only []string
	why  string
}

// banList holds for the code of the product, not for its tests.
var banList = []banned{
	{prefix: "log", except: "log/slog", why: "one log: log/slog, with codes and fields that can be searched"},
	{prefix: "github.com/cockroachdb/pebble", only: []string{"store"}, why: "the store hides its database; other packages speak our verbs"},
	{prefix: "github.com/goccy/go-yaml", only: []string{"directory"}, why: "text becomes one validated Domain in one place"},
	{prefix: "go.etcd.io/etcd", only: []string{"directory"}, why: "where the domain lives is hidden behind directory.Store"},
	{prefix: "github.com/go-ldap/ldap", only: []string{"directory"}, why: "where the domain lives is hidden behind directory.Store"},
	{prefix: "testing", only: []string{"sim", "e2e", "tidy"}, why: "the product does not carry the test harness"},
}

// pureBans are the imports that bring chance, a file or a socket into a pure package.
var pureBans = []banned{
	{prefix: "os", why: "a pure package sees no file"},
	{prefix: "net", why: "a pure package sees no socket"},
	{prefix: "syscall", why: "a pure package sees no kernel"},
	{prefix: "golang.org/x/sys", except: "golang.org/x/sys/cpu", why: "a pure package sees no kernel"},
	{prefix: "math/rand", why: "a pure package takes chance as an argument, or a run cannot be replayed"},
	{prefix: "crypto/rand", why: "a pure package takes chance as an argument, or a run cannot be replayed"},
}

func (b banned) hits(imp string) bool {
	return imp != b.except && (imp == b.prefix || strings.HasPrefix(imp, b.prefix+"/"))
}

// place returns the index of the layer that dir ("internal/wire/wirepb") belongs to, or -1.
func place(dir string) int {
	name, ok := strings.CutPrefix(dir, "internal/")
	if !ok {
		return -1
	}
	name, _, _ = strings.Cut(name, "/")
	for i, l := range layers {
		if l.name == name {
			return i
		}
	}
	return -1
}

// A package whose name ends in "test" (volume/volumetest) is a contract suite,
// by the standard library's convention, and may import testing.

// checkLayers reports packages that are not in the table, imports against the
// order, steps that know a step or the engine, and imports that a layer bans.
func checkLayers(t *tree) []breach {
	var out []breach
	for _, f := range t.files {
		dir := path.Dir(f.path)
		at := place(dir)
		if at < 0 && strings.HasPrefix(dir, "internal/") {
			out = append(out, f.breach(f.syntax.Package, "layering",
				dir+" is not in the table in internal/tidy/layers.go",
				"a package without a place in the order can be imported from anywhere and becomes a sink"))
			continue
		}
		for _, imp := range f.imports() {
			out = append(out, f.judgeImport(at, imp)...)
		}
	}
	return out
}

// judgeImport judges one import of a file whose layer has the index at, or -1.
func (f *source) judgeImport(at int, imp importOf) []breach {
	if inner, ok := strings.CutPrefix(imp.path, f.module+"/"); ok {
		return f.judgeInner(at, imp, inner)
	}
	if f.isTest {
		return nil
	}
	bans := banList
	if at >= 0 && layers[at].kind == pure {
		bans = slices.Concat(banList, pureBans)
	}
	for _, b := range bans {
		allowed := at >= 0 && slices.Contains(b.only, layers[at].name) ||
			b.prefix == "testing" && strings.HasSuffix(path.Dir(f.path), "test")
		if b.hits(imp.path) && !allowed {
			return []breach{f.breach(imp.pos, "import", "imports "+imp.path, b.why)}
		}
	}
	return nil
}

// judgeInner judges one import of another package of this module. Tests may
// look further up, to stand on real code, but never at a test-only package.
func (f *source) judgeInner(at int, imp importOf, inner string) []breach {
	to := place(inner)
	if to < 0 || to == at {
		return nil
	}
	target := layers[to]
	if target.kind == testOnly {
		return []breach{f.breach(imp.pos, "layering", "imports "+inner, target.why)}
	}
	if at < 0 || f.isTest || layers[at].kind == testOnly {
		return nil
	}
	self := layers[at]
	if self.kind == step && target.kind == step {
		return []breach{f.breach(imp.pos, "layering", fmt.Sprintf("step %s imports step %s", self.name, target.name),
			"steps are spokes and share nouns of repl; "+self.why)}
	}
	if to > at {
		return []breach{f.breach(imp.pos, "layering", fmt.Sprintf("%s imports %s, which stands below it", self.name, target.name), self.why)}
	}
	return nil
}
