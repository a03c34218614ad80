package loop

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func option(t *testing.T, fd, level, name int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// socket is a TCP socket, until the test ends.
func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// TestKeepAliveOfWhatLasts looks at pairs of a loop that does not run: one that is open, one that
// opens later, and one that is not open yet.
func TestKeepAliveOfWhatLasts(t *testing.T) {
	l, err := newLoop(New(func(func()) {}, Options{KeepAlive: net.KeepAliveConfig{
		Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4,
	}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.release)
	pairs := [3]*pair{}
	for i := range pairs {
		pairs[i] = l.slab.get(l)
		pairs[i].ends[server].fd = int32(socket(t))
		pairs[i].stage = dialling
	}
	alive := func(i int) bool {
		return option(t, int(pairs[i].ends[server].fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 1
	}
	steps := []struct {
		name  string
		do    func()
		alive [3]bool
		again bool // there is a pair to look at later
	}{
		{"opened", func() { pairs[0].stage = open; l.young() }, [3]bool{}, true},
		{"seen once", l.growUp, [3]bool{}, true},
		{"another opened", func() { pairs[1].stage = open; l.young() }, [3]bool{}, true},
		{"seen twice", l.growUp, [3]bool{true, false, false}, true},
		{"all that are open seen twice", l.growUp, [3]bool{true, true, false}, false},
		{"memory is used again", func() { l.slab.put(pairs[0]); pairs[0] = l.slab.get(l); pairs[0].stage = open; l.young() }, [3]bool{true, true, false}, true},
		{"seen once again", l.growUp, [3]bool{true, true, false}, true},
	}
	for _, s := range steps {
		s.do()
		for i, want := range s.alive {
			if got := alive(i); got != want {
				t.Errorf("%s: keep-alive of pair %d is %v, want %v", s.name, i, got, want)
			}
		}
		if again := l.grow > 0; again != s.again {
			t.Errorf("%s: to look again is %v, want %v", s.name, again, s.again)
		}
	}
	fd := int(pairs[1].ends[server].fd)
	got := [3]int{option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)}
	if want := [3]int{60, 15, 4}; got != want {
		t.Errorf("idle, interval and count are %v, want %v", got, want)
	}
}

// TestBatchKeepsNice: a daemon that was started with another nice value has it on its loops, too.
func TestBatchKeepsNice(t *testing.T) {
	var wg sync.WaitGroup
	wg.Go(func() {
		l := &loop{}
		runtime.LockOSThread() // and never unlocked: the thread ends here
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return
		}
		attr.Nice = max(attr.Nice, 5) // anybody may be nicer
		nice := attr.Nice
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			t.Error(err)
			return
		}
		l.batch()
		if attr, err = unix.SchedGetAttr(0, 0); err != nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != nice {
			t.Errorf("%+v, %v, want SCHED_BATCH and the nice value", attr, err)
		}
	})
	wg.Wait()
}
