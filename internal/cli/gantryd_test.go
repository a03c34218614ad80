package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

const shopFile = `{"components": [
  {"name": "web", "repo": "shop/web", "tag": "v1", "ports": [{"external": 80, "container": 8080}]},
  {"name": "worker", "repo": "shop/worker"},
  {"name": "db", "repo": "shop/db"}
]}`

// A fleet is an etcd with the project shop in it.
type fleet struct {
	t    *testing.T
	etcd *etcdtest.Member
	env  []string
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	m := etcdtest.Start(t)
	f := &fleet{t: t, etcd: m, env: []string{"ETCDCTL_ENDPOINTS=" + m.Endpoint(), "USER=ann"}}
	if o := f.gantryd(shopFile, "setconfig", "shop", "-"); o.code != exitOK || o.out != "Configuration updated\n" {
		t.Fatalf("setconfig = %+v", o)
	}
	return f
}

func (f *fleet) gantryd(stdin string, args ...string) outcome {
	f.t.Helper()
	return inProcess(f.t, Gantryd, stdin, f.env, args...)
}

// put writes a value of the project as hand or a daemon does.
func (f *fleet) put(key string, value any) {
	f.t.Helper()
	text, ok := value.(string)
	if !ok {
		b, err := json.Marshal(value)
		if err != nil {
			f.t.Fatal(err)
		}
		text = string(b)
	}
	f.etcd.Put(f.t, "/gantryd/projects/shop/"+key, text)
}

// generation is the revision of a component's state.
func (f *fleet) generation(name string) int64 {
	f.t.Helper()
	return f.all()["/gantryd/projects/shop/components/"+name+"/state"].Revision
}

// all is everything that is stored, to see that nothing changed.
func (f *fleet) all() map[string]etcdtest.Value {
	f.t.Helper()
	return f.etcd.All(f.t, "/gantryd/")
}

func TestGantrydMistakes(t *testing.T) {
	f := newFleet(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing.json")
	broken := file("broken.json", "{")
	invalid := file("invalid.json", `{"components": [{"name": "web", "repo": "r", "ports": [{"external": 70000, "container": 1}]}]}`)
	before := f.all()
	tests := []struct {
		name string
		args []string
		code int
		err  string // first line of stderr, or its beginning when it ends in "…"
	}{
		{"unknown project", []string{"list", "nope"}, exitNotFound, "gantryd: Unknown project nope"},
		{"unknown project to update", []string{"update", "nope", "-c", "web"}, exitNotFound, "gantryd: Unknown project nope"},
		{"unknown component", []string{"list", "shop", "-c", "nope"}, exitNotFound, "gantryd: Unknown component named nope"},
		{"unknown component to update", []string{"update", "shop", "-c", "nope"}, exitNotFound, "gantryd: Unknown component named nope"},
		{"unknown component to stop", []string{"stop", "shop", "-c", "web", "nope"}, exitNotFound, "gantryd: Unknown component named nope"},
		{"nothing named to update", []string{"update", "shop"}, exitUsage, "gantryd: name the components with -c, or give --all"},
		{"all and some to kill", []string{"kill", "shop", "-c", "web", "--all"}, exitUsage, "gantryd: name the components with -c, or give --all"},
		{"empty -c", []string{"update", "shop", "-c"}, exitUsage, "gantryd: flag needs an argument: 'c' in -c"},
		{"no config file named", []string{"setconfig", "shop"}, exitUsage, "gantryd: Missing configfile parameter"},
		{"config file missing", []string{"setconfig", "shop", missing}, exitNotFound, "gantryd: Could not find config file: " + missing},
		{"config file is a directory", []string{"setconfig", "shop", dir}, exitNotFound, "gantryd: Could not find config file: " + dir + "…"},
		{"config does not parse", []string{"setconfig", "shop", broken}, exitFailed, "gantryd: Error parsing gantry config: …"},
		{"config is invalid", []string{"setconfig", "shop", invalid}, exitFailed, "gantryd: " + invalid + ": …"},
		{"validate an invalid one", []string{"validate", invalid}, exitFailed, "gantryd: " + invalid + ": …"},
		{"no config stored", []string{"getconfig", "nope"}, exitNotFound, "gantryd: No config found"},
		{"unknown action", []string{"deploy", "shop"}, exitUsage, `gantryd: unknown command "deploy" for "gantryd"`},
		{"no project", []string{"list"}, exitUsage, "gantryd: accepts 1 arg(s), received 0"},
		{"unknown flag", []string{"list", "shop", "--nope"}, exitUsage, "gantryd: unknown flag: --nope"},
		{"unknown form", []string{"list", "shop", "-o", "xml"}, exitUsage, `gantryd: unknown form of output "xml": table, json or yaml`},
		{"pull when", []string{"update", "shop", "-c", "web", "--pull", "often"}, exitUsage, `gantryd: --pull "often": missing, always or never`},
		{"etcd twice", []string{"list", "shop", "-etcd", "h", "--endpoints", "h:1"}, exitUsage, "gantryd: --etcd and --endpoints say the same thing; give one of them"},
		{"half a key pair", []string{"list", "shop", "--cert", "c"}, exitUsage, "gantryd: --cert and --key go together"},
		{"adopt without a word", []string{"adopt", "shop"}, exitUsage, "gantryd: this makes every daemon of project shop follow what etcd says now; …"},
		{"bind to a name", []string{"run", "shop", "--bind", "localhost"}, exitUsage, `gantryd: --bind "localhost": not an IP address`},
		{"name that is a path", []string{"list", "a/b"}, exitFailed, "gantryd: …"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := f.gantryd("", tt.args...)
			first, _, _ := strings.Cut(o.err, "\n")
			begin, open := strings.CutSuffix(tt.err, "…")
			if o.code != tt.code || o.out != "" || open && !strings.HasPrefix(first, begin) || !open && first != tt.err {
				t.Errorf("gantryd %s = %+v, want code %d and %q", strings.Join(tt.args, " "), o, tt.code, tt.err)
			}
		})
	}
	if d := cmp.Diff(before, f.all()); d != "" {
		t.Errorf("mistakes changed what is stored:\n%s", d)
	}
}

func TestGantryMistakes(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	if err := os.WriteFile(good, []byte(shopFile), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.json")
	tests := []struct {
		name string
		args []string
		code int
		err  string // beginning of stderr
	}{
		{"no arguments", []string{}, exitUsage, "gantry: accepts 3 arg(s), received 0\n"},
		{"unknown action", []string{good, "deploy", "web"}, exitUsage, `gantry: unknown action "deploy": start, update, list, drain, stop or kill` + "\n"},
		{"config file missing", []string{missing, "start", "web"}, exitNotFound, "gantry: Could not find config file: " + missing + "\n"},
		{"config does not parse", []string{broken, "start", "web"}, exitFailed, "gantry: Error parsing gantry config: "},
		{"unknown component", []string{good, "start", "nope"}, exitNotFound, "gantry: Unknown component: nope\n"},
		{"unknown field", []string{good, "start", "web", "--setconfig", "color=red"}, exitUsage, "gantry: apply override \"color\": No field named color found"},
		{"invalid override", []string{good, "start", "web", "--setconfig", "ports.70000=1"}, exitUsage, "gantry: "},
		{"unknown form", []string{good, "list", "web", "-o", "xml"}, exitUsage, `gantry: unknown form of output "xml"`},
		{"state directory too long", []string{good, "list", "web", "--state-dir", "/tmp/" + strings.Repeat("x", 120)}, exitUsage, "gantry: state directory "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := inProcess(t, Gantry, "", []string{"HOME=" + dir, "GANTRY_STATE_DIR=" + dir}, tt.args...)
			if o.code != tt.code || o.out != "" || !strings.HasPrefix(o.err, tt.err) {
				t.Errorf("gantry %s = %+v, want code %d and %q", strings.Join(tt.args, " "), o, tt.code, tt.err)
			}
		})
	}
}

func TestEtcdUnreachable(t *testing.T) {
	dead := etcdtest.Start(t)
	dead.Stop()
	for _, args := range [][]string{
		{"list", "shop"},
		{"status", "shop"},
		{"getconfig", "shop"},
		{"update", "shop", "-c", "web"},
		{"stop", "shop", "-c", "web"},
		{"kill", "shop", "--all"},
		{"adopt", "shop", "--confirm"},
	} {
		began := time.Now()
		o := inProcess(t, Gantryd, "", nil, append(args, "--endpoints", dead.Endpoint(), "--command-timeout", "500ms")...)
		if o.code != exitUnreachable || !strings.Contains(o.err, dead.Endpoint()) || o.out != "" {
			t.Errorf("gantryd %v = %+v, want code 5 and the endpoint", args, o)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("gantryd %v took %v", args, took)
		}
	}
}

func TestUpdateWithoutDocker(t *testing.T) {
	f := newFleet(t)
	before := f.all()
	f.env = append(f.env, "DOCKER_HOST=unix://"+filepath.Join(t.TempDir(), "none.sock"))
	o := f.gantryd("", "update", "shop", "-c", "web")
	if o.code != exitUnreachable || !strings.Contains(o.err, "none.sock") {
		t.Errorf("update = %+v, want code 5 and the socket", o)
	}
	if d := cmp.Diff(before, f.all()); d != "" {
		t.Errorf("it changed what is stored:\n%s", d)
	}
}

func TestWaysToSayWhereEtcdIs(t *testing.T) {
	f := newFleet(t)
	host, port, _ := strings.Cut(f.etcd.Endpoint(), ":")
	for _, args := range [][]string{
		{"list", "shop", "-etcd", host, "-etcdport", port},
		{"list", "shop", "-etcd=" + host, "-etcdport=" + port},
		{"-etcd", host, "-etcdport", port, "list", "shop"},
		{"list", "shop", "-c", "web", "worker", "-etcd", host, "-etcdport", port},
		{"list", "shop", "--etcd", host + ":" + port},
		{"list", "shop", "--endpoints", "127.0.0.1:1," + f.etcd.Endpoint()},
		{"list", "shop", "--endpoints", "http://" + f.etcd.Endpoint()},
	} {
		o := inProcess(t, Gantryd, "", []string{"ETCDCTL_ENDPOINTS=127.0.0.1:1"}, args...)
		if o.code != exitOK || !strings.Contains(o.out, "web ") {
			t.Errorf("gantryd %v = %+v", args, o)
		}
	}
}

func TestWaysToNameComponents(t *testing.T) {
	f := newFleet(t)
	for _, args := range [][]string{
		{"stop", "shop", "-c", "web", "worker"},
		{"stop", "shop", "-c", "web,worker"},
		{"stop", "shop", "-c", "web", "-c", "worker"},
		{"stop", "shop", "-c=web", "--component", "worker"},
		{"stop", "-c", "web", "-c=worker", "--", "shop"},
	} {
		o := f.gantryd("", args...)
		want := outcome{exitOK, "Marking components as stopped\n", "Marking component web as stopped\nMarking component worker as stopped\n"}
		if o != want {
			t.Errorf("gantryd %v = %+v, want %+v", args, o, want)
		}
	}
}

func TestConfigComesBackByteForByte(t *testing.T) {
	f := newFleet(t)
	first := f.gantryd("", "getconfig", "shop")
	golden(t, "getconfig.json", first.out)
	if o := f.gantryd(first.out, "setconfig", "shop", "-"); o.code != exitOK {
		t.Fatalf("setconfig = %+v", o)
	}
	if again := f.gantryd("", "getconfig", "shop"); again != first {
		t.Errorf("getconfig after setconfig of its output = %+v, want %+v", again, first)
	}
	if o := f.gantryd(first.out, "validate", "-"); o.out != "Configuration valid: 3 components\n" || o.code != exitOK {
		t.Errorf("validate = %+v", o)
	}
	if o := f.gantryd("", "schema"); o.code != exitOK || !json.Valid([]byte(o.out)) {
		t.Errorf("schema: code %d, %s", o.code, o.err)
	}
}

func TestStoredConfigThatDoesNotParse(t *testing.T) {
	f := newFleet(t)
	f.put("components/web/state", `{"status": "ready", "imageid": "sha256:00"}`)
	f.put("config", "{")
	o := f.gantryd("", "list", "shop")
	if o.code != exitOK || !strings.Contains(o.out, "web ") || !strings.HasPrefix(o.err, "warning: ") || !strings.Contains(o.err, "/config") {
		t.Errorf("list = %+v, want a warning with the key, and the rest", o)
	}
	if o := f.gantryd("", "stop", "shop", "-c", "web"); o.code != exitOK {
		t.Errorf("stop = %+v", o)
	}
}

func TestCompletion(t *testing.T) {
	f := newFleet(t)
	if o := f.gantryd("", "__complete", "update", "shop", "-c", ""); o.code != exitOK || !strings.HasPrefix(o.out, "web\nworker\ndb\n") {
		t.Errorf("completion of -c = %+v", o)
	}
	f.etcd.Put(t, "/gantryd/projects/shop-2/config", "{}")
	f.etcd.Put(t, "/gantryd/projects/a/components/x/state", "{}")
	for _, command := range []string{"update", "drain", "run", "setconfig", "adopt"} {
		if o := f.gantryd("", "__complete", command, ""); o.code != exitOK || !strings.HasPrefix(o.out, "a\nshop-2\nshop\n") {
			t.Errorf("completion of %s PROJECT = %+v", command, o)
		}
	}
	if o := f.gantryd("", "__complete", "status", "shop", ""); !strings.HasPrefix(o.out, ":4\n") {
		t.Errorf("completion after PROJECT = %+v", o)
	}
	if o := f.gantryd("", "__complete", "setconfig", "shop", ""); !strings.HasPrefix(o.out, ":0\n") {
		t.Errorf("completion of a file = %+v", o)
	}
	file := filepath.Join(t.TempDir(), "shop.json")
	if err := os.WriteFile(file, []byte(shopFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := inProcess(t, Gantry, "", nil, "__complete", file, "update", ""); !strings.HasPrefix(o.out, "web\nworker\ndb\n") {
		t.Errorf("completion of gantry FILE update = %+v", o)
	}
	if o := inProcess(t, Gantry, "", nil, "__complete", file, ""); !strings.HasPrefix(o.out, "start\nupdate\nlist\ndrain\nstop\nkill\n") {
		t.Errorf("completion of gantry FILE = %+v", o)
	}
	if o := f.gantryd("", "completion", "bash"); o.code != exitOK || !strings.Contains(o.out, "gantryd") {
		t.Errorf("completion bash: code %d, %s", o.code, o.err)
	}
}

const imageID = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestTables shows a fleet in all the conditions an operator meets.
func TestTables(t *testing.T) {
	f := newFleet(t)
	f.put("components/web/state", `{"status": "ready", "imageid": "`+imageID+`"}`) // by hand
	f.put("components/worker/state", component.Desired{Status: component.StatusReady, ImageID: imageID, Image: component.Image{Ref: "shop/worker:v2"}})
	web, worker := f.generation("web"), f.generation("worker")
	f.put("components/web/rollout", component.Rollout{Generation: web, Status: component.RolloutProgressing})
	f.put("components/worker/rollout", component.Rollout{Generation: worker, Status: component.RolloutHalted, Kind: component.UpdateFail, Host: "h2", Reason: "host h2: not ready after 10s"})
	for _, h := range []string{"h1", "h2"} {
		f.put("machines/"+h+"/state", component.Machine{Status: "running", Components: []string{"web", "worker"}, IP: "192.0.2." + h[1:]})
	}
	old := time.Now().Add(-3*24*time.Hour - time.Minute)
	f.put("components/web/hosts/h1", component.HostStatus{
		Host: "h1", Generation: web, Target: web, Step: component.StepServing, Containers: []component.ContainerStatus{
			{ID: "aaaaaaaaaaaaaaaaaaaa", Stage: component.Draining, Ready: true, Health: component.Healthy, ImageID: imageID, Connections: 7, Oldest: 3*time.Hour + 2*time.Second, Created: old},
			{ID: "bbbbbbbbbbbbbbbbbbbb", Stage: component.Serving, Primary: true, Ready: true, Health: component.Healthy, ImageID: imageID, Connections: 41, Created: time.Now().Add(-90 * time.Minute)},
		},
	})
	f.put("components/web/hosts/h2", component.HostStatus{Host: "h2", Target: web, Step: component.StepWaiting, Detail: "turn of h1"})
	f.put("components/worker/hosts/h2", component.HostStatus{
		Host: "h2", Target: worker, Step: component.StepFailed, Detail: "not ready after 10s",
		Failure: &component.Failure{Generation: worker, Kind: component.UpdateFail, Reason: "not ready after 10s: \x1b[31mcheck \"http\"", At: time.Now().Add(-5*time.Minute - time.Second)},
	})
	golden(t, "list.txt", f.gantryd("", "list", "shop").out)
	golden(t, "status.txt", f.gantryd("", "status", "shop").out)
	golden(t, "status-web.txt", f.gantryd("", "status", "shop", "-c", "web").out)
	golden(t, "list.json", f.gantryd("", "list", "shop", "-o", "json").out)
	golden(t, "list.yaml", f.gantryd("", "list", "shop", "-o", "yaml").out)
	var report api.Status
	o := f.gantryd("", "status", "shop", "-o", "json")
	if err := json.Unmarshal([]byte(o.out), &report); err != nil || len(report.Components) != 3 || len(report.Hosts) != 2 {
		t.Errorf("status -o json = %+v, %v", report, err)
	}
}

func TestStopBeforeAnyUpdate(t *testing.T) {
	f := newFleet(t)
	if o := f.gantryd("", "kill", "shop", "-c", "db"); o.code != exitOK {
		t.Fatalf("kill = %+v", o)
	}
	if o := f.gantryd("", "list", "shop", "-c", "db"); !strings.Contains(o.out, "db                   killed") {
		t.Errorf("list = %+v", o)
	}
	if o := f.gantryd("", "status", "shop"); !strings.Contains(o.out, "No daemon runs; start one with 'gantryd run shop'") {
		t.Errorf("status = %+v", o)
	}
}
