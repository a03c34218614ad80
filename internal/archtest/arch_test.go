package archtest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// A rule looks at the sources and returns each place that breaks it.
type rule struct {
	name  string
	check func(*tree) []string
}

var rules = []rule{
	{"libraries have owners", librariesHaveOwners},
	{"libraries have reasons", librariesHaveReasons},
	{"test libraries do not ship", testLibrariesDoNotShip},
	{"dependencies point down", dependenciesPointDown},
	{"adapters are strangers", adaptersAreStrangers},
	{"pkg keeps out of internal", libraryCodeKeepsOutOfInternal},
	{"the top is imported by nobody", topIsImportedByNobody},
	{"helpers do not ship", helpersDoNotShip},
	{"goroutines are waited for", goroutinesAreWaitedFor},
	{"nothing runs on import", nothingRunsOnImport},
	{"contexts come from the caller", contextsComeFromTheCaller},
	{"contexts are not kept", contextsAreNotKept},
	{"only main exits", onlyMainExits},
	{"nobody prints", nobodyPrints},
	{"nobody sleeps", nobodySleeps},
	{"tests sleep in bubbles", testsSleepInBubbles},
	{"files are short", filesAreShort},
	{"functions are short", functionsAreShort},
	{"packages say what they are", packagesSayWhatTheyAre},
	{"the map matches the code", mapMatchesTheCode},
	{"documents name tests that exist", documentsNameTests},
}

// exceptions are places that may break a rule: its name, how what it says begins, and why. Such as
// {"functions are short", "pkg/proxy/copy.go: splice ", "one loop whose order matters"}.
var exceptions = []struct{ rule, place, why string }{}

func TestRepository(t *testing.T) {
	sources, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	needed := make([]bool, len(exceptions))
	allowed := func(rule, problem string) bool {
		for i, e := range exceptions {
			if e.rule == rule && strings.HasPrefix(problem, e.place) {
				needed[i] = true
				return true
			}
		}
		return false
	}
	for _, r := range rules {
		problems := slices.DeleteFunc(r.check(sources), func(p string) bool { return allowed(r.name, p) })
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range problems {
				t.Error(problem)
			}
		})
	}
	for i, e := range exceptions {
		if !needed[i] {
			t.Errorf("exception %q for %q is needed no longer", e.place, e.rule)
		}
		if e.why == "" {
			t.Errorf("exception %q for %q has no reason", e.place, e.rule)
		}
	}
}

func TestMapExists(t *testing.T) {
	if _, err := os.Stat("../../" + architecture); err != nil {
		t.Errorf("the map of the code is missing: %v", err)
	}
}
