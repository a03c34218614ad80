package proxybench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// Commands of Main.
const (
	CommandServe = "serve"
	CommandLoad  = "load"
)

// Main is the process of the server or of the generator:
//
//	serve ADDR   prepare the network namespace, which must be a new one, serve there, print "ready", and
//	             print the Counts each time a line is read, until in ends
//	load JOB     do the job and print its result, both as JSON
func Main(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == CommandServe:
		return serve(ctx, args[1], in, out)
	case len(args) == 2 && args[0] == CommandLoad:
		var j Job
		if err := json.Unmarshal([]byte(args[1]), &j); err != nil {
			return fmt.Errorf("read job: %w", err)
		}
		r, err := Run(ctx, j)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(r)
	}
	return fmt.Errorf("unknown command %q", args)
}

func serve(ctx context.Context, addr string, in io.Reader, out io.Writer) error {
	if err := prepare(); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(bulkLoops + 2)
	s, err := listen(addr, bulkLoops)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	defer wg.Wait()
	defer cancel()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := enc.Encode(s.counts()); err != nil {
			return err
		}
	}
	return nil
}

// settings of the network namespace. Every connection closed by a client leaves one waiting, and those
// through a proxy two: with the usual settings ports would run out within a second or two.
func settings() map[string]string {
	return map[string]string{
		"ipv4/ip_local_port_range": "10000 65535",
		"ipv4/tcp_tw_reuse":        "1",
		"ipv4/tcp_max_tw_buckets":  "10000",
		"core/somaxconn":           "65535",
		"ipv4/tcp_max_syn_backlog": "65535",
	}
}

// prepare brings the namespace's loopback interface up and sets it up for many connections.
func prepare() error {
	for name, value := range settings() {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set up network namespace: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer closeFD(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring loopback interface up: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring loopback interface up: %w", err)
	}
	return nil
}
