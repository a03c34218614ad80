package failpoint

import (
	"os"
	"strings"
)

// A Point is something a daemon does to the world outside it.
type Point string

// Writes to etcd.
const (
	Grant          Point = "grant"           // get a lease
	Revoke         Point = "revoke"          // end the lease of the daemon before
	Register       Point = "register"        // write the machine under the lease
	PublishMachine Point = "publish-machine" // write it again
	Publish        Point = "publish"         // write what the host sees of a component
	TakeTurn       Point = "take-turn"       // with the trace of it, and the record when it is the first
	EndTurn        Point = "end-turn"        // with the result
	Returned       Point = "returned"        // take the trace of a lost turn away
	PutRollout     Point = "put-rollout"     // done, promoted or halted
	Rollback       Point = "rollback"        // what the policy asks for in the operator's name
)

// Calls of the engine.
const (
	Containers   Point = "containers"
	ImagePresent Point = "image-present"
	Pull         Point = "pull"
	Create       Point = "create"
	Start        Point = "start"
	Stop         Point = "stop"
	Kill         Point = "kill"
	Remove       Point = "remove"
	Logs         Point = "logs"
	ExitReason   Point = "exit-reason"
	RemoveImage  Point = "remove-image"
	Gateway      Point = "gateway"
)

// All are all points.
func All() []Point {
	return []Point{
		Grant, Revoke, Register, PublishMachine, Publish, TakeTurn, EndTurn, Returned, PutRollout, Rollback,
		Containers, ImagePresent, Pull, Create, Start, Stop, Kill, Remove, Logs, ExitReason, RemoveImage, Gateway,
	}
}

// The moments of a point.
const (
	Before = "before"
	After  = "after"
)

// variable is set by the linker, for tests only.
var variable string //nolint:gochecknoglobals // the linker can set nothing else; nobody writes it at run time

// nothing is what follows a point in a release.
func nothing() {}

// Around ends the process when it is to die before p. It returns what ends it when it is to die after p, to be
// called then.
func Around(p Point) (after func()) {
	if variable == "" {
		return nothing
	}
	hit(p, Before)
	return func() { hit(p, After) }
}

// hit ends the process when the file says so.
func hit(p Point, moment string) {
	path := os.Getenv(variable)
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(text)) != string(p)+" "+moment {
		return
	}
	if os.Remove(path) != nil { // another daemon was first
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = self.Kill() // nothing more can be done than not to come back
	}
	select {}
}
