//go:build race

package modeltest

// raceEnabled: the exploration runs on one goroutine, and ten times slower under the race detector.
const raceEnabled = true
