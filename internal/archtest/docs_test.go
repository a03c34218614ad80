package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// architecture is the map of the code.
const architecture = "ARCHITECTURE.md"

// maxMap is how long the map may get: it is read whole.
const maxMap = 150

func packagesSayWhatTheyAre(t *tree) []string {
	var found []string
	for _, pkg := range t.packages() {
		docs := map[string]string{} // by file
		var main, shipped bool
		var name string
		for _, f := range t.files {
			if f.pkg != pkg {
				continue
			}
			main = main || f.main
			shipped = shipped || !f.test
			name = strings.TrimSuffix(f.ast.Name.Name, "_test")
			if f.ast.Doc != nil {
				docs[path.Base(f.path)] = f.ast.Doc.Text()
			}
		}
		switch {
		case len(docs) == 0:
			found = append(found, pkg+": no package comment; say its one job, its use, its concurrency contract, what it does not know")
		case len(docs) > 1 && !main:
			found = append(found, pkg+": package comments in several files; keep the one in doc.go")
		case shipped && !main && !strings.HasPrefix(docs["doc.go"], "Package "+name+" "):
			found = append(found, fmt.Sprintf("%s: doc.go does not begin with %q", pkg, "Package "+name+" "))
		}
	}
	return found
}

// notes are where each library has its reason.
const notes = "docs/design/*.md"

// quoted is anything in backquotes.
var quoted = regexp.MustCompile("`([^`\\s]+)`")

func librariesHaveReasons(t *tree) []string {
	var reasons []string
	files, err := fs.Glob(t.fsys, notes)
	if err != nil {
		return []string{err.Error()}
	}
	for _, name := range files {
		text, err := fs.ReadFile(t.fsys, name)
		if err != nil {
			return []string{err.Error()}
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			reasons = append(reasons, m[1])
		}
	}
	return eachImport(t, func(_ *file, imported string) string {
		if _, own := ours(imported); own || isStd(imported) || within(imported, reasons...) {
			return ""
		}
		return "no note in docs/design says why we need it"
	})
}

// named are the folders and files that a text names in backquotes, such as `pkg/proxy`.
var named = regexp.MustCompile("`((?:cmd|pkg|internal|examples|scripts|packaging|docs|tools)/[^`\\s]*)`")

func mapMatchesTheCode(t *tree) []string {
	text, err := fs.ReadFile(t.fsys, architecture)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // TestMapExists says so
	}
	if err != nil {
		return []string{err.Error()}
	}
	var found, exact, below []string
	for _, m := range named.FindAllStringSubmatch(string(text), -1) {
		name, all := strings.CutSuffix(strings.TrimSuffix(m[1], "/"), "/...")
		if all {
			below = append(below, name)
		}
		exact = append(exact, name)
		if !t.exists(name) {
			found = append(found, fmt.Sprintf("%s names %s, which does not exist", architecture, m[1]))
		}
	}
	for _, pkg := range t.packages() {
		if !slices.Contains(exact, pkg) && !within(pkg, below...) {
			found = append(found, fmt.Sprintf("%s does not name %s", architecture, pkg))
		}
	}
	if n := strings.Count(string(text), "\n"); n > maxMap {
		found = append(found, fmt.Sprintf("%s has %d lines, at most %d; it is a map, not the manual", architecture, n, maxMap))
	}
	return found
}

// namedTest is a test that a text names in backquotes, such as `TestRepository`.
var namedTest = regexp.MustCompile("`(Test[A-Z]\\w*)`")

// documentsNameTests fails a document that says a test shows something, when there is no such test.
func documentsNameTests(t *tree) []string {
	tests := map[string]bool{}
	for _, f := range t.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
	}
	names, err := fs.Glob(t.fsys, "docs/*.md")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, name := range names {
		text, err := fs.ReadFile(t.fsys, name)
		if err != nil {
			return append(found, err.Error())
		}
		for _, m := range namedTest.FindAllStringSubmatch(string(text), -1) {
			if !tests[m[1]] {
				found = append(found, fmt.Sprintf("%s names %s, which does not exist", name, m[1]))
			}
		}
	}
	return found
}

// exists reports whether there is such a file or folder, or a package of which the rest is a name: pkg/component.Next.
func (t *tree) exists(name string) bool {
	if _, err := fs.Stat(t.fsys, name); err == nil {
		return true
	}
	dir, last := path.Split(name)
	pkg, _, qualified := strings.Cut(last, ".")
	return qualified && slices.Contains(t.packages(), dir+pkg)
}
