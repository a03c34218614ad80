package loop

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestWaitingLoopsLeaveRoom lets a loop wait where it has the only processor: others run meanwhile.
func TestWaitingLoopsLeaveRoom(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const loops, rounds = 1, 100
	var running sync.WaitGroup
	defer running.Wait()
	e := New(running.Go, Options{Loops: loops})
	if e.spare {
		t.Error("one processor is enough for a loop and others")
	}
	if runtime.GOMAXPROCS(loops + 1); !New(nil, Options{Loops: loops}).spare {
		t.Error("one more processor than loops is not enough")
	}
	runtime.GOMAXPROCS(loops)
	all, err := e.start()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	begin := time.Now()
	for range rounds {
		if err := all[0].call(func() error { return nil }); err != nil { // and then the loop waits again
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > rounds*shortWait*time.Millisecond*3/4 {
		t.Errorf("%d turns of another goroutine took %v", rounds, took)
	}
}
