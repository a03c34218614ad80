package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the path all our imports begin with.
const module = "github.com/gantryd/gantryd/"

// tree is the module's sources.
type tree struct {
	fsys  fs.FS
	fset  *token.FileSet
	files []*file // by path
}

// file is one Go file.
type file struct {
	path  string // "pkg/proxy/drain.go"
	pkg   string // "pkg/proxy"
	test  bool   // compiled for tests only
	main  bool   // package main
	lines int
	ast   *ast.File
	// imports are the paths it imports, names what each is called in the file.
	imports []string
	names   map[string]string
}

// load parses every Go file below the root, except those of nested modules, testdata and hidden folders.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && skip(fsys, name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.files = append(t.files, newFile(name, src, parsed))
		return nil
	})
	return t, err
}

func skip(fsys fs.FS, dir string) bool {
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" {
		return true
	}
	_, err := fs.Stat(fsys, path.Join(dir, "go.mod"))
	return err == nil
}

func newFile(name string, src []byte, parsed *ast.File) *file {
	f := &file{
		path:  name,
		pkg:   path.Dir(name),
		test:  strings.HasSuffix(name, "_test.go"),
		main:  parsed.Name.Name == "main",
		lines: bytes.Count(src, []byte("\n")),
		ast:   parsed,
		names: map[string]string{},
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused it
		}
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.names[local] = imported
		f.imports = append(f.imports, imported)
	}
	return f
}

// isHelper reports whether f belongs to a package that exists for tests, such as internal/etcdtest
// and what is below it.
func (f *file) isHelper() bool { return isHelper(f.pkg) }

func isHelper(pkg string) bool {
	return slices.ContainsFunc(strings.Split(pkg, "/"), func(s string) bool { return strings.HasSuffix(s, "test") })
}

// calls returns the position of each use of a function of the package with that path, such as
// "os" and "Exit", whatever the file calls the package.
func (f *file) calls(pkg string, funcs ...string) []ast.Node {
	var found []ast.Node
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || !slices.Contains(funcs, sel.Sel.Name) {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && f.names[x.Name] == pkg {
			found = append(found, sel)
		}
		return true
	})
	return found
}

// at is where n is, as "path:line".
func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// packages are the folders with Go files.
func (t *tree) packages() []string {
	var all []string
	for _, f := range t.files {
		all = append(all, f.pkg)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// within reports whether pkg is one of roots or below one.
func within(pkg string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return pkg == root || strings.HasPrefix(pkg, root+"/")
	})
}
