package realtest

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/daemontest"
	"github.com/gantryd/gantryd/internal/debiantest"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// debian is the servers and the load generators.
func debian(t *testing.T) debiantest.Tree {
	t.Helper()
	return debiantest.Unpack(t, "docker", "redis-server", "redis-tools", "nginx", "wrk")
}

// A release is an image of a server.
type release struct{ ref, imageID string }

// A site is a daemon that runs one component.
type site struct {
	op   *daemontest.Operator
	spec component.Spec
	port int
}

// newSite starts a daemon and brings the component up; its external port is chosen here.
func newSite(t *testing.T, spec component.Spec, r release) *site {
	t.Helper()
	project := dockertest.Project(t)
	etcd := etcdtest.Start(t)
	s := &site{op: daemontest.Dial(t, etcd.Endpoint(), project), port: porttest.Free(t, 1)[0]}
	spec.Ports[0].External = s.port
	spec.StopTimeout = component.Duration(5 * time.Second)
	none := component.Duration(0)
	spec.Rollout.Bake = &none
	s.spec = spec
	s.op.Configure(t, spec)
	d := daemontest.Start(t, daemontest.Build(t), daemontest.Options{Project: project, Endpoint: etcd.Endpoint()})
	d.Ready(t)
	s.update(t, r)
	return s
}

// update rolls a release out; it returns when the host serves it.
func (s *site) update(t *testing.T, r release) {
	t.Helper()
	s.op.Served(t, s.spec.Name, s.op.Update(t, s.spec, r.ref, r.imageID))
}

// containers waits until the host has so many of the component.
func (s *site) containers(t *testing.T, n int) {
	t.Helper()
	s.op.Await(t, s.spec.Name, "to have the containers that are due", func(st component.HostStatus) bool {
		return len(st.Containers) == n
	})
}

// A background is a program that runs beside the test.
type background struct {
	out, errOut bytes.Buffer // once it has ended
	err         error        // once it has ended
	process     *os.Process
	ended       chan struct{}
}

func start(t *testing.T, cmd *exec.Cmd) *background {
	t.Helper()
	b := &background{ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &b.out, &b.errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.process = cmd.Process
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(b.ended)
		b.err = cmd.Wait()
	})
	t.Cleanup(wg.Wait) // its context ends with the test
	return b
}

func (b *background) running() bool {
	select {
	case <-b.ended:
		return false
	default:
		return true
	}
}

// interrupt makes the program end and tell what it saw.
func (b *background) interrupt(t *testing.T) {
	t.Helper()
	if err := b.process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

// wait returns what the program wrote; it must have ended well.
func (b *background) wait(t *testing.T) string {
	t.Helper()
	select {
	case <-b.ended:
	case <-time.After(10 * time.Minute):
		t.Fatal("the load generator does not end")
	}
	if b.err != nil {
		t.Errorf("the load generator: %v\n%s\n%s", b.err, b.out.String(), b.errOut.String())
	}
	return b.out.String()
}
