package fleettest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Across gives each host of the fleet an Engine of its own, in the order in which Daemon is called. The fleet's
// etcd is none of theirs, and commands use the first one.
func Across(es ...*Engine) Option {
	return func(f *Fleet) {
		f.across, f.Docker, f.env = es, es[0].Docker, append(f.env, "DOCKER_HOST="+es[0].Host)
	}
}

// addAddress gives the machine an address that every Engine's network reaches, whichever of them is off.
func (f *Fleet) addAddress(t testing.TB) string {
	t.Helper()
	ip := fmt.Sprintf("198.19.%d.%d", rand.N(256), 1+rand.N(254))
	if out, err := exec.Command("ip", "address", "add", ip+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("add address %s: %v: %s", ip, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "address", "delete", ip+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Errorf("delete address %s: %v: %s", ip, err, out)
		}
	})
	return ip
}

// Outside is an address of the test at which every Engine of a fleet across several reaches it.
func (f *Fleet) Outside() string {
	ip, _, _ := strings.Cut(f.etcd, ":")
	return ip
}

// PowerOff ends all that runs on the Engine's machine at once, as when somebody pulls the plug: its network, the
// Engine, the containers, and every process in its network, such as ds. Nothing of it comes to an orderly end.
func (e *Engine) PowerOff(t testing.TB, ds ...*Daemon) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", e.outer, "down").CombinedOutput(); err != nil {
		t.Fatalf("cut the Engine off: %v: %s", err, out)
	}
	Await(t, Soon, "nothing runs there any more", func() error {
		pids, err := e.processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already when this fails
		}
		if len(pids) > 0 {
			return fmt.Errorf("%d processes do", len(pids))
		}
		return nil
	})
	for _, d := range ds {
		d.Kill(t) // it is dead; this notes it
	}
	e.Kill(t)
	e.forgetRun(t)
}

// PowerOn brings the machine back. It starts the Engine; what else runs there is the caller's to start.
func (e *Engine) PowerOn(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", e.outer, "up").CombinedOutput(); err != nil {
		t.Fatalf("join the Engine's network: %v: %s", err, out)
	}
	e.Start(t)
}

// processes are those in the Engine's network, and their children, which are in networks of containers.
func (e *Engine) processes() ([]int, error) {
	network, err := os.Stat("/run/netns/" + e.namespace)
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var there []int
	parents := map[int]int{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		// The name, in brackets, may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[0] == "Z" {
			continue
		}
		if parents[pid], err = strconv.Atoi(fields[1]); err != nil {
			return nil, err
		}
		if its, err := os.Stat(dir + "/ns/net"); err == nil && os.SameFile(its, network) {
			there = append(there, pid)
		}
	}
	for i := 0; i < len(there); i++ {
		for child, parent := range parents {
			if parent == there[i] && !slices.Contains(there, child) {
				there = append(there, child)
			}
		}
	}
	return there, nil
}

// forgetRun takes away what a machine does not have any more after it was off: mounts, interfaces of containers,
// and all that the Engine keeps in memory. Its disk stays.
func (e *Engine) forgetRun(t testing.TB) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines) // what was mounted last goes first
	for _, line := range lines {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], e.dir+"/") {
			_ = exec.Command("umount", "--lazy", fields[1]).Run() // it went with another one when this fails
		}
	}
	if err := os.RemoveAll(filepath.Join(e.dir, "exec")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(e.dir, "docker.sock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	bridge := slices.Concat(e.inside(), []string{"ip", "link", "delete", "docker0"})
	_ = exec.Command(bridge[0], bridge[1:]...).Run() // there may be none
}
