package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The demo's own names and places; nothing of the machine's own gantryd is touched.
const (
	projectName = "demo"
	repo        = "gantryd-demo/hello"
	configFile  = "examples/hello/gantryd.json"
	frontURL    = "http://127.0.0.1:8080/"
	budget      = 85 * time.Second
)

func main() {
	if err := show(); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// show bounds the demo in time; Ctrl-C cleans up too.
func show() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	return run(ctx, os.Stdout)
}

// A demo is one run of it.
type demo struct {
	out     io.Writer
	dir     string // temporary; holds the daemon's data
	etcd    string // host:port
	gantryd string // path of the binary
}

func run(ctx context.Context, out io.Writer) (err error) {
	if answers(ctx, "127.0.0.1:8080") {
		return errors.New("port 8080 is in use; the demo needs it")
	}
	dir, err := os.MkdirTemp("", "gantryd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{out: out, dir: dir, etcd: "127.0.0.1:2379", gantryd: "bin/gantryd"}
	if answers(ctx, d.etcd) {
		return fmt.Errorf("something listens at %s already; the demo wants to show the embedded etcd there", d.etcd)
	}
	e, err := newEngine()
	if err != nil {
		return err
	}
	d.say("Building a small web component, twice, from scratch images")
	if err := d.build(ctx, e); err != nil {
		return err
	}
	defer e.cleanUp(context.WithoutCancel(ctx), out)
	return d.story(ctx, e)
}

func (d *demo) build(ctx context.Context, e *engine) error {
	bin := filepath.Join(d.dir, "app")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, "./internal/testapp")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the web component: %w: %s", err, b)
	}
	for _, v := range []string{"v1", "v2"} {
		if err := e.build(ctx, "examples/hello/Dockerfile", bin, repo+":"+v, v); err != nil {
			return err
		}
	}
	return nil
}

// story is the demo itself.
func (d *demo) story(ctx context.Context, e *engine) error {
	d.say("Storing the configuration and starting this host's daemon, with etcd inside")
	daemon, err := d.start(ctx, "run", projectName, "--data-dir", filepath.Join(d.dir, "data"))
	if err != nil {
		return err
	}
	defer daemon.stop()
	if err := await(ctx, 20*time.Second, func() bool { return answers(ctx, d.etcd) }); err != nil {
		return fmt.Errorf("the daemon did not start: %w\n%s", err, daemon.log())
	}
	if err := d.do(ctx, "setconfig", projectName, configFile); err != nil {
		return err
	}
	d.say("First release: v1")
	if err := e.tag(ctx, repo+":v1", repo, "latest"); err != nil {
		return err
	}
	if err := d.do(ctx, "update", projectName, "-c", "hello", "--wait", "--timeout", "30s"); err != nil {
		return fmt.Errorf("%w\n%s", err, daemon.log())
	}
	d.say("Clients start: short, keep-alive and streaming connections, all through the proxy")
	load := startLoad(ctx, frontURL)
	defer load.stop()
	if err := load.steady(ctx, 3*time.Second); err != nil {
		return err
	}
	d.say("Rolling v2 out under that traffic")
	if err := e.tag(ctx, repo+":v2", repo, "latest"); err != nil {
		return err
	}
	load.mark()
	if err := d.do(ctx, "update", projectName, "-c", "hello", "--wait", "--timeout", "30s"); err != nil {
		return fmt.Errorf("%w\n%s", err, daemon.log())
	}
	if err := d.do(ctx, "status", projectName); err != nil {
		return err
	}
	if err := load.steady(ctx, 6*time.Second); err != nil {
		return err
	}
	load.stop()
	d.say("What the clients saw")
	failed := load.report(d.out)
	d.say("Stopping")
	if err := d.do(ctx, "stop", projectName, "-c", "hello"); err != nil {
		return err
	}
	if err := await(ctx, 20*time.Second, func() bool { n, err := e.running(ctx); return err == nil && n == 0 }); err != nil {
		return fmt.Errorf("the component did not stop: %w\n%s", err, daemon.log())
	}
	if err := d.do(ctx, "list", projectName); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	return nil
}

func (d *demo) say(text string) { fmt.Fprintf(d.out, "\n== %s\n", text) }

// do prints a gantryd command and runs it.
func (d *demo) do(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.out, "$ gantryd %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.gantryd, args...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("gantryd %s: %w", args[0], err)
	}
	return nil
}

// A process is a daemon in the background.
type process struct {
	cmd  *exec.Cmd
	path string // of its log
}

func (d *demo) start(ctx context.Context, args ...string) (*process, error) {
	fmt.Fprintf(d.out, "$ gantryd %s &\n", strings.Join(args, " "))
	p := &process{path: filepath.Join(d.dir, "daemon.log")}
	log, err := os.Create(p.path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), d.gantryd, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p, p.cmd.Start()
}

// stop ends the daemon as systemd would.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already when this fails
	_ = p.cmd.Wait()
}

func (p *process) log() string {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return err.Error()
	}
	return "the daemon's log:\n" + string(b[max(0, len(b)-4000):])
}

func answers(ctx context.Context, addr string) bool {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// await looks every 20 ms until ok says yes.
func await(ctx context.Context, within time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
