// Package failpoint lists the points at which a daemon may die with something half done: before and after each
// write to etcd and each call of the container engine. A test names one, and the daemon that gets there first
// ends at once, as after kill -9.
//
//	defer failpoint.Around(failpoint.TakeTurn)()
//
// This works only in a binary that was linked with the name of an environment variable:
//
//	go build -ldflags '-X github.com/gantryd/gantryd/internal/failpoint.variable=GANTRYD_FAILPOINT'
//
// The variable then holds the path of a file with a point and a moment in it, such as "take-turn after". Who gets
// there takes the file away first, so one daemon dies of it, once. In a release the linker has set
// nothing, no environment can change that, and each point is a comparison with an empty string.
//
// All functions may be called at once. The package knows nothing of what it interrupts.
package failpoint
