package fleettest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// LeaseTTL is the life of the daemons' leases in a fleet: how long a daemon that was killed blocks
// the others. It is longer than a busy machine or its disk stands still.
const LeaseTTL = 10 * time.Second

// A Fleet is a project with its etcd and its daemons on one Engine.
type Fleet struct {
	Project string
	Port    int // external port of Web; the next nine are free as well
	Docker  *dockertest.Inspector
	Etcd    *Process
	Members []*Process // all of etcd; Etcd is the first

	prefix string // of the loopback addresses of this fleet, "127.1.2."
	etcd   string // host:port
	inside []string
	env    []string
	size   int // of etcd's cluster
	hosts  int
	names  map[string]bool // of images
	across []*Engine       // one for each host; none: all hosts are on Docker
	on     map[string]*Engine
}

// An Option changes what New makes.
type Option func(*Fleet)

// On puts the fleet on an Engine of its own, and into its network.
func On(e *Engine) Option {
	return func(f *Fleet) {
		f.inside, f.env = e.inside(), []string{"DOCKER_HOST=" + e.Host}
		f.Docker, f.etcd = e.Docker, net.JoinHostPort(e.IP, "2379")
	}
}

// With gives the fleet's processes more environment.
func With(env ...string) Option {
	return func(f *Fleet) { f.env = append(f.env, env...) }
}

// Members makes etcd a cluster of n, which cannot be on an Engine of its own.
func Members(n int) Option { return func(f *Fleet) { f.size = n } }

// New starts etcd and prepares a project that nobody else uses.
func New(t testing.TB, options ...Option) *Fleet {
	t.Helper()
	f := &Fleet{
		prefix: fmt.Sprintf("127.%d.%d.", 16+rand.N(200), rand.N(250)),
		Port:   10000 + 10*rand.N(900), // below the ports of links and those of outgoing connections
		names:  map[string]bool{},
		on:     map[string]*Engine{},
	}
	for _, o := range options {
		o(f)
	}
	if len(f.across) > 0 {
		f.etcd = net.JoinHostPort(f.addAddress(t), "2379")
	}
	if f.Docker == nil {
		f.Project = dockertest.Project(t)
		f.Docker = dockertest.Inspect(t, "")
		f.etcd = net.JoinHostPort(f.prefix+"250", "2379")
	} else {
		f.Project = "test-" + strconv.Itoa(rand.N(1<<30))
	}
	if f.size > 1 {
		f.cluster(t)
		return f
	}
	f.Etcd = f.member(t)
	f.Etcd.Start(t)
	f.Members = []*Process{f.Etcd}
	return f
}

// cluster starts etcd with several members.
func (f *Fleet) cluster(t testing.TB) {
	t.Helper()
	var clients, peers []string
	for i := range f.size {
		ip := f.prefix + strconv.Itoa(250-i)
		clients = append(clients, net.JoinHostPort(ip, "2379"))
		peers = append(peers, fmt.Sprintf("e%d=http://%s", i+1, net.JoinHostPort(ip, "2380")))
	}
	f.etcd = strings.Join(clients, ",")
	for i, client := range clients {
		_, peer, _ := strings.Cut(peers[i], "=http://")
		name := fmt.Sprintf("e%d", i+1)
		argv := append(f.command(t), "etcd", "--name", name, "--data-dir", f.etcdDir(t), "--listen-client", client,
			"--listen-peer", peer, "--initial-cluster", strings.Join(peers, ","))
		p := newProcess(t, "etcd-"+name, argv, f.env, "etcd member")
		p.Launch(t)
		f.Members = append(f.Members, p)
	}
	f.Etcd = f.Members[0]
	for _, p := range f.Members {
		p.works(t)
	}
}

// member describes the fleet's etcd.
func (f *Fleet) member(t testing.TB) *Process {
	t.Helper()
	host, _, err := net.SplitHostPort(f.etcd)
	if err != nil {
		t.Fatal(err)
	}
	argv := append(f.command(t), "etcd", "--name", "e1", "--data-dir", f.etcdDir(t),
		"--listen-client", f.etcd, "--listen-peer", net.JoinHostPort(host, "2380"))
	return newProcess(t, "etcd", argv, f.env, "etcd member")
}

// command is how gantryd is run.
func (f *Fleet) command(t testing.TB) []string {
	t.Helper()
	return append(append([]string(nil), f.inside...), Binary(t, "gantryd"))
}

// WipeEtcd deletes all that the fleet's etcd, which must not run, has stored.
func (f *Fleet) WipeEtcd(t testing.TB) {
	t.Helper()
	for i, a := range f.Etcd.argv {
		if a == "--data-dir" {
			if err := os.RemoveAll(f.Etcd.argv[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (f *Fleet) etcdDir(t testing.TB) string { return filepath.Join(t.TempDir(), "etcd") }

// Endpoint is host:port of the fleet's etcd; of a cluster those of all members, with commas in between.
func (f *Fleet) Endpoint() string { return f.etcd }

// A Daemon is a gantryd run of one host.
type Daemon struct {
	*Process
	Host    string
	IP      string // where its external ports listen
	DataDir string
}

// Daemon describes the daemon of a host, which is not started. Args are further flags of run.
func (f *Fleet) Daemon(t testing.TB, host string, args ...string) *Daemon {
	t.Helper()
	f.hosts++
	d := &Daemon{Host: host, IP: f.prefix + strconv.Itoa(f.hosts), DataDir: filepath.Join(t.TempDir(), host)}
	inside, env := f.inside, f.env
	switch {
	case len(f.across) > 0:
		e := f.across[f.hosts-1]
		f.on[host], d.IP = e, e.IP
		inside, env = e.inside(), append(slices.Clone(f.env), "DOCKER_HOST="+e.Host)
	case inside != nil:
		d.IP, _, _ = net.SplitHostPort(f.etcd)
	}
	argv := append(slices.Clone(inside), Binary(t, "gantryd"), "run", f.Project, "--host", host, "--bind", d.IP, "--data-dir", d.DataDir,
		"--endpoints", f.etcd, "--lease-ttl", LeaseTTL.String())
	d.Process = newProcess(t, "daemon-"+host, append(argv, args...), env, "Gantryd running")
	return d
}

// Through makes the daemon, which does not run, ask etcd at another address.
func (d *Daemon) Through(endpoint string) {
	for i, a := range d.argv {
		if a == "--endpoints" {
			d.argv[i+1] = endpoint
		}
	}
}

// URL is the address of a port of the host, with path.
func (d *Daemon) URL(port int, path string) string {
	return "http://" + net.JoinHostPort(d.IP, strconv.Itoa(port)) + path
}

// Repo is the image repository of a component, of which Release sets the tag latest.
func (f *Fleet) Repo(name string) string { return "gantryd-fleettest/" + f.Project + "-" + name }

// Web is a component with an HTTP port that is quick to get ready, and drains as long as it takes.
func (f *Fleet) Web() component.Spec {
	bake := component.Duration(0)
	return component.Spec{
		Name: "web", Repo: f.Repo("web"),
		Ports: []component.Port{{External: f.Port, Container: 8080, Kind: component.KindHTTP}},
		ReadyChecks: []component.Check{{
			ID: "ready page", Kind: component.CheckHTTP, Port: 8080, Path: "/ready",
			Interval: component.Duration(50 * time.Millisecond),
		}},
		TerminationChecks: []component.Check{{
			Kind: component.CheckConnection, Interval: component.Duration(100 * time.Millisecond),
		}},
		ReadyTimeout: 60_000, // on a busy machine it is not quick; what is to fail has a shorter one
		Rollout:      component.RolloutPolicy{Bake: &bake},
	}
}

// Configure stores the components as the project's configuration.
func (f *Fleet) Configure(t testing.TB, specs ...component.Spec) {
	t.Helper()
	b, err := json.Marshal(component.Project{Components: specs})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gantryd.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Must(t, "setconfig", f.Project, path)
}

// Release makes the variant the image that the next update of the component rolls out.
func (f *Fleet) Release(t testing.TB, name string, v dockertest.Variant) (imageID string) {
	t.Helper()
	ref := f.Repo(name) + ":latest"
	for _, docker := range f.dockers("") {
		_, imageID = docker.Image(t, v)
		docker.Tag(t, imageID, ref)
		if !f.names[ref] {
			t.Cleanup(func() { docker.Untag(t, ref) })
		}
	}
	f.names[ref] = true
	return imageID
}

// Gantryd runs a command to its end, with the fleet's etcd.
func (f *Fleet) Gantryd(t testing.TB, args ...string) Result {
	t.Helper()
	return runCommand(t, f.command(t), append(args, "--endpoints", f.etcd), f.env)
}

// Must runs a command that has to succeed.
func (f *Fleet) Must(t testing.TB, args ...string) Result {
	t.Helper()
	r := f.Gantryd(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r
}

// Update rolls the component's image out and waits for the end, which must be a good one.
func (f *Fleet) Update(t testing.TB, names ...string) Result {
	t.Helper()
	args := []string{"update", f.Project, "--wait", "--timeout", "3m"}
	for _, n := range names {
		args = append(args, "-c", n)
	}
	return f.Must(t, args...)
}

// State is all that etcd holds of the project.
func (f *Fleet) State(t testing.TB) etcdstate.Project {
	t.Helper()
	c, err := etcdstate.Dial(t.Context(), etcdstate.Config{Endpoints: strings.Split(f.etcd, ",")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Project(t.Context(), f.Project)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Containers are those of a component on a host, oldest first; of all hosts when host is empty.
func (f *Fleet) Containers(t testing.TB, host, name string) []dockertest.Container {
	t.Helper()
	labels := []string{dockertest.LabelProject + "=" + f.Project, "dev.gantryd.component=" + name}
	if host != "" {
		labels = append(labels, "dev.gantryd.host="+host)
	}
	var out []dockertest.Container
	for _, docker := range f.dockers(host) {
		out = append(out, docker.Containers(t, labels...)...)
	}
	return out
}

// dockers are the Engines of a host; of all hosts when host is empty.
func (f *Fleet) dockers(host string) []*dockertest.Inspector {
	if e, ok := f.on[host]; ok {
		return []*dockertest.Inspector{e.Docker}
	}
	if len(f.across) == 0 {
		return []*dockertest.Inspector{f.Docker}
	}
	out := make([]*dockertest.Inspector, len(f.across))
	for i, e := range f.across {
		out[i] = e.Docker
	}
	return out
}

// Running are the containers whose process runs.
func (f *Fleet) Running(t testing.TB, host, name string) []dockertest.Container {
	t.Helper()
	var out []dockertest.Container
	for _, c := range f.Containers(t, host, name) {
		if c.Running() {
			out = append(out, c)
		}
	}
	return out
}

// Upgrade replaces the daemon by a process of the binary, or of its own when that is empty, and follows that one.
// The result is the command's.
func (d *Daemon) Upgrade(t testing.TB, f *Fleet, binary string) Result {
	t.Helper()
	args := []string{"upgrade", f.Project, "--data-dir", d.DataDir}
	if binary != "" {
		args = append(args, "--binary", binary)
	}
	r := f.Gantryd(t, args...)
	if r.Code != 0 {
		return r
	}
	_, pid, found := strings.Cut(strings.TrimSpace(r.Out), ", process ")
	n, err := strconv.Atoi(pid)
	if !found || err != nil {
		t.Fatalf("%v\nno process ID", r)
	}
	d.Replaced(t, n)
	return r
}
