package tidy

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkExported reports exported functions, types and methods of exported types
// without a comment. What an interface of the language says already (String,
// Error, Unwrap, Is) needs none, and commands have no callers.
func checkExported(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		if f.isTest || f.syntax.Name.Name == "main" {
			continue
		}
		for _, d := range f.syntax.Decls {
			for _, name := range undocumented(d) {
				out = append(out, f.breach(name.Pos(), "exported", name.Name+" has no comment",
					"a caller reads the comment, not the code: shapes, units, errors, and where the rule comes from"))
			}
		}
	}
	return out
}

// wellKnown are methods whose meaning the language fixes.
var wellKnown = []string{"String", "Error", "Unwrap", "Is"}

// undocumented lists what a declaration exports without a comment.
func undocumented(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && !slices.Contains(wellKnown, d.Name.Name) && (d.Recv == nil || receiver(d).IsExported()) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		var out []*ast.Ident
		for _, s := range d.Specs {
			if s, ok := s.(*ast.TypeSpec); ok && d.Doc == nil && s.Doc == nil && s.Name.IsExported() {
				out = append(out, s.Name)
			}
		}
		return out
	}
	return nil
}

// receiver is the name of the type that a method belongs to.
func receiver(fn *ast.FuncDecl) *ast.Ident {
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x
		default:
			return ast.NewIdent("_")
		}
	}
}

// checkErrors reports texts that say that something failed instead of what.
func checkErrors(t *tree) []breach {
	var out []breach
	for _, f := range t.written() {
		if f.isTest {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if ok && lit.Kind == token.STRING && strings.Contains(strings.ToLower(lit.Value), "failed "+"to ") {
				out = append(out, f.breach(lit.Pos(), "error text", "says that something failed",
					"an error names operation and object, and what to do; that it failed is what an error is"))
			}
			return true
		})
	}
	return out
}
