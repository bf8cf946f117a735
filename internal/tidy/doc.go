// Package tidy holds the rules of this repository as tests.
//
// A rule that only a reviewer enforces is forgotten; one that a test enforces is
// a fact. Each check reads the tree (an fs.FS, so that a small bad tree in
// testdata serves as well as the real one) and returns breaches. A breach names
// file and line, the rule, what was found and why the rule is there.
//
// The rules are: the layering of internal/ (layers.go, the table with a reason
// for each ban); no clock, chance or file in the pure packages; a package comment
// that specifies, and comments on what is exported; errors that say what went
// wrong; ceilings on files and functions; no init and no sleeping; no open note
// without an entry in docs/; gofmt; Markdown links that resolve; no path of one
// machine; and proofs named in docs/rules.md that exist.
//
// Generated code (ast.IsGenerated) is exempt from all rules about form, not
// from the layering. Directories named testdata are not Go source of the
// product and are left out, except for paths of one machine.
//
// Test only: nothing imports this package.
package tidy
