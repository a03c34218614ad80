package cli

import (
	"runtime"

	"github.com/gantryd/gantryd/pkg/proxy"
)

// spareProcs is how many goroutines may run at once beside the loops of the proxy. A loop waits in
// the kernel: with no processor to spare, Go's monitor takes the loop's own away after 20 µs of it,
// and getting it back costs more than the wait.
const spareProcs = 2

// raiseProcs lets more goroutines run at once than the machine has processors, so that the proxy's
// loops keep theirs. GOMAXPROCS in the environment wins.
func raiseProcs(env Env) {
	if env.Getenv("GOMAXPROCS") != "" {
		return
	}
	if n := leastProcs(runtime.NumCPU()); runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// leastProcs is how many goroutines must be able to run at once on a machine with that many processors.
func leastProcs(cpus int) int { return max(cpus, proxy.LoopCount) + spareProcs }
