package loop

import (
	"runtime"
	"slices"
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
	var took []time.Duration
	for range rounds {
		begin := time.Now()
		if err := all[0].call(func() error { return nil }); err != nil { // and then the loop waits again
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	// Of those that wait for a short wait most take all of it; on a busy machine some take long, but not half.
	if half := took[rounds/2]; half > shortWait*time.Millisecond*3/4 {
		t.Errorf("half of %d turns of another goroutine took %v and more", rounds, half)
	}
}
