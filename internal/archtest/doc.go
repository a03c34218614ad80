// Package archtest fails when the sources stop matching the architecture.
//
// It holds no code, only tests. They parse every Go file of the module and check each rule that a
// linter cannot see or does not see surely: who may import whom, which goroutines somebody waits for,
// what may touch the process, how long files and functions get, what is documented and on the map in
// ARCHITECTURE.md. Each rule says why it exists, and is itself shown to fire on a planted violation.
//
// To allow an exception, name it in exceptions with its reason; one that is needed no longer fails
// the test too. A new rule is a function in rules and a case in TestRulesFire.
//
// The tests run at once and read only. They look at the sources and at nothing that runs, and do not
// follow imports outside the module.
package archtest
