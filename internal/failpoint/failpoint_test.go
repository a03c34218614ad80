package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/internal/failpoint"
)

func TestReleaseIgnoresTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "point")
	if err := os.WriteFile(path, []byte("take-turn before"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GANTRYD_FAILPOINT", path)
	failpoint.Around(failpoint.TakeTurn)() // this process goes on
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { failpoint.Around(failpoint.TakeTurn)() }); n != 0 {
		t.Errorf("a point costs %v allocations", n)
	}
}

// Every point is somewhere in what ships, and once in All.
func TestEveryPointIsReached(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", "..", "pkg"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "failpoint" {
					used[sel.Sel.Name] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[failpoint.Point]bool{}
	for _, p := range failpoint.All() {
		if seen[p] {
			t.Errorf("%q is twice in All", p)
		}
		seen[p] = true
		name := ""
		for part := range strings.SplitSeq(string(p), "-") {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
		if !used[name] {
			t.Errorf("nothing in pkg has the point %s", name)
		}
	}
}
