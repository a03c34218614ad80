package agent

import (
	"os/exec"
	"sync"
)

// waitFor sends the exit code to exited, which has room for it, when the process has ended. Nobody
// waits for the goroutine: the agent outlives the command that started it, and the command's end
// ends the goroutine.
func waitFor(cmd *exec.Cmd, exited chan<- int) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = cmd.Wait() // how it ended is in its log
		exited <- cmd.ProcessState.ExitCode()
	})
}
