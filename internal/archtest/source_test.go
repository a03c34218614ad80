package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
)

// eachFile calls check with every file that want accepts, and says where each node it finds is.
func eachFile(t *tree, want func(*file) bool, problem string, find func(*file) []ast.Node) []string {
	var found []string
	for _, f := range t.files {
		if !want(f) {
			continue
		}
		for _, n := range find(f) {
			found = append(found, t.at(n)+": "+problem)
		}
	}
	return found
}

// Which files a rule looks at.
func isAny(*file) bool         { return true }
func isNoTest(f *file) bool    { return !f.test }
func shipsNoMain(f *file) bool { return !f.test && !f.isHelper() && !f.main }

// nodes are the nodes of f that match.
func nodes(f *file, match func(ast.Node) bool) []ast.Node {
	var found []ast.Node
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if n != nil && match(n) {
			found = append(found, n)
		}
		return true
	})
	return found
}

func goroutinesAreWaitedFor(t *tree) []string {
	return eachFile(t, isNoTest, "go statement; use errgroup.Go or WaitGroup.Go and wait for it", func(f *file) []ast.Node {
		return nodes(f, func(n ast.Node) bool { _, ok := n.(*ast.GoStmt); return ok })
	})
}

func nothingRunsOnImport(t *tree) []string {
	return eachFile(t, isAny, "func init; work happens when somebody asks for it", func(f *file) []ast.Node {
		return nodes(f, func(n ast.Node) bool {
			fn, ok := n.(*ast.FuncDecl)
			return ok && fn.Recv == nil && fn.Name.Name == "init"
		})
	})
}

func contextsComeFromTheCaller(t *tree) []string {
	return eachFile(t, shipsNoMain, "a context of its own; take the caller's, for clean-up context.WithoutCancel and a timeout",
		func(f *file) []ast.Node { return f.calls("context", "Background", "TODO") })
}

func contextsAreNotKept(t *tree) []string {
	return eachFile(t, isNoTest, "a context in a struct; pass it as the first argument", func(f *file) []ast.Node {
		var found []ast.Node
		for _, n := range nodes(f, func(n ast.Node) bool { _, ok := n.(*ast.StructType); return ok }) {
			for _, field := range n.(*ast.StructType).Fields.List {
				sel, ok := field.Type.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Context" {
					continue
				}
				if x, ok := sel.X.(*ast.Ident); ok && f.names[x.Name] == "context" {
					found = append(found, field)
				}
			}
		}
		return found
	})
}

func onlyMainExits(t *tree) []string {
	return eachFile(t, shipsNoMain, "ends the process; return an error", func(f *file) []ast.Node {
		return append(f.calls("os", "Exit"), f.calls("log", "Fatal", "Fatalf", "Fatalln")...)
	})
}

func nobodyPrints(t *tree) []string {
	return eachFile(t, shipsNoMain, "prints to the process's output; write to the writer you were given", func(f *file) []ast.Node {
		found := f.calls("fmt", "Print", "Printf", "Println")
		return append(found, nodes(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return false
			}
			id, ok := call.Fun.(*ast.Ident)
			return ok && (id.Name == "print" || id.Name == "println")
		})...)
	})
}

func nobodySleeps(t *tree) []string {
	return eachFile(t, isNoTest, "time.Sleep; use a timer and the context",
		func(f *file) []ast.Node { return f.calls("time", "Sleep") })
}

// testsSleepInBubbles fails a test that sleeps on the wall clock: it wastes the time or is flaky. A
// function may sleep when it opens a synctest bubble or when only functions that do so use it.
func testsSleepInBubbles(t *tree) []string {
	var found []string
	for _, pkg := range t.packages() {
		funcs := t.testFuncs(pkg)
		for _, fn := range funcs {
			if len(fn.sleeps) == 0 || inBubble(fn, funcs, nil) {
				continue
			}
			for _, n := range fn.sleeps {
				found = append(found, t.at(n)+": time.Sleep outside a synctest bubble; wait for what should happen")
			}
		}
	}
	return found
}

// testFunc is a function of a package's tests.
type testFunc struct {
	name   string
	sleeps []ast.Node
	bubble bool            // it opens one
	uses   map[string]bool // every name in its body
}

func (t *tree) testFuncs(pkg string) []*testFunc {
	var funcs []*testFunc
	for _, f := range t.files {
		if f.pkg != pkg || !f.test {
			continue
		}
		sleeps, bubbles := f.calls("time", "Sleep"), f.calls("testing/synctest", "Test")
		for _, decl := range f.ast.Decls {
			funcs = append(funcs, newTestFunc(decl, sleeps, bubbles))
		}
	}
	return funcs
}

// newTestFunc makes one of any declaration: a function literal in a variable sleeps too.
func newTestFunc(decl ast.Decl, sleeps, bubbles []ast.Node) *testFunc {
	contains := func(n ast.Node) bool { return decl.Pos() <= n.Pos() && n.Pos() < decl.End() }
	fn := &testFunc{bubble: slices.ContainsFunc(bubbles, contains), uses: map[string]bool{}}
	if d, ok := decl.(*ast.FuncDecl); ok {
		fn.name = d.Name.Name
	}
	for _, n := range sleeps {
		if contains(n) {
			fn.sleeps = append(fn.sleeps, n)
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			fn.uses[id.Name] = true
		}
		return true
	})
	return fn
}

// inBubble reports whether fn only ever runs in a bubble. Seen are the functions on the way here.
func inBubble(fn *testFunc, all []*testFunc, seen []*testFunc) bool {
	if fn.bubble {
		return true
	}
	seen = append(seen, fn)
	users := 0
	for _, user := range all {
		if fn.name == "" || !user.uses[fn.name] || slices.Contains(seen, user) {
			continue
		}
		users++
		if !inBubble(user, all, seen) {
			return false
		}
	}
	return users > 0
}

// What is long is hard to read. The length of a function counts from its name to its last brace.
const (
	maxFile     = 500
	maxFunction = 60
	maxMain     = 40
)

func filesAreShort(t *tree) []string {
	var found []string
	for _, f := range t.files {
		limit := maxFile
		if f.main && within(f.pkg, "cmd") {
			limit = maxMain
		}
		if !f.test && f.lines > limit {
			found = append(found, fmt.Sprintf("%s: %d lines, at most %d; give a part of it a file or a package", f.path, f.lines, limit))
		}
	}
	return found
}

func functionsAreShort(t *tree) []string {
	var found []string
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.lines(fn.Name.Pos(), fn.End()); n > maxFunction {
				found = append(found, fmt.Sprintf("%s: %s has %d lines, at most %d; name its steps", f.path, fn.Name.Name, n, maxFunction))
			}
		}
	}
	return found
}

func (t *tree) lines(from, to token.Pos) int {
	return t.fset.Position(to).Line - t.fset.Position(from).Line + 1
}
