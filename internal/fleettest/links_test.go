package fleettest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// linked are two components: web, which needs the link that db exports.
func linked(f *fleettest.Fleet) (web, db component.Spec) {
	web = f.Web()
	web.RequireComponentLinks = []component.LinkRequest{{Name: "database", Alias: "db"}}
	db = f.Web()
	db.Name, db.Repo, db.Ports = "db", f.Repo("db"), nil
	db.DefineComponentLinks = []component.LinkDefinition{{Name: "database", Port: 8080}}
	return web, db
}

// variables are the link variables of the container that answers for web, sorted.
func variables(t *testing.T, f *fleettest.Fleet, d *fleettest.Daemon) []string {
	t.Helper()
	body, err := fleettest.Get(t.Context(), &http.Client{Timeout: fleettest.Soon}, d.URL(f.Port, "/env"))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Env []string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	vs := slices.DeleteFunc(answer.Env, func(v string) bool { return !strings.HasPrefix(v, "DB_") })
	slices.Sort(vs)
	return vs
}

// overLink returns who answers when the container of web asks over its link: the version and the
// container's ID.
func overLink(t *testing.T, f *fleettest.Fleet, d *fleettest.Daemon) (version, id string, err error) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: fleettest.Soon}
	body, err := fleettest.Get(t.Context(), c, d.URL(f.Port, "/fetch?env=DB_CLINK&path=/"))
	version, id, _ = strings.Cut(strings.TrimSpace(body), " ")
	return version, id, err
}

func wantOverLink(t *testing.T, f *fleettest.Fleet, d *fleettest.Daemon, version string) {
	t.Helper()
	if got, _, err := overLink(t, f, d); err != nil || got != version {
		t.Errorf("over the link answers %q, %v; want version %s", got, err, version)
	}
}

func TestLinkIsWaitedForAndStaysWhereItIs(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	d := f.Daemon(t, "h1")
	d.Start(t)
	web, db := linked(f)
	f.Configure(t, web, db)
	f.Release(t, "web", version("v1"))
	f.Release(t, "db", version("d1"))

	f.Must(t, "update", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Soon, "the importer waits", func() error {
		if out := f.Must(t, "status", f.Project, "-c", "web").Out; !strings.Contains(out, "database") {
			return fmt.Errorf("status does not name the link:\n%s", out)
		}
		return nil
	})
	if n := len(f.Containers(t, "", "web")); n > 0 {
		t.Errorf("%d containers of the importer before the exporter serves", n)
	}
	f.Update(t, "db")
	fleettest.Await(t, fleettest.Soon, "the importer serves", func() error { return serves(t, f, "h1", 1) })
	before := variables(t, f, d)
	t.Log(before)
	if len(before) != 5 || !strings.HasPrefix(before[0], "DB_CLINK=tcp://") {
		t.Fatalf("link variables %q, want the five of the original", before)
	}
	url := strings.TrimPrefix(before[0], "DB_CLINK=")
	addr := strings.TrimPrefix(url, "tcp://")
	host, port, _ := strings.Cut(addr, ":")
	for _, want := range []string{
		"DB_CLINK_8080_TCP=" + url, "DB_CLINK_8080_TCP_PROTO=tcp", "DB_CLINK_8080_TCP_ADDR=" + host, "DB_CLINK_8080_TCP_PORT=" + port,
	} {
		if !slices.Contains(before, want) {
			t.Errorf("link variables %q lack %q", before, want)
		}
	}
	wantOverLink(t, f, d, "d1")

	// The importer's container knows one address: updates and restarts do not change it.
	importer := onlyServing(t, f, "h1", "web", 0)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/fetch?env=DB_CLINK&path=/"), Short: 2})
	for i := range 4 {
		v := fmt.Sprintf("d%d", i+2)
		f.Release(t, "db", version(v))
		f.Update(t, "db")
		wantOverLink(t, f, d, v)
	}
	load.Stop().NoFailures(t, fleettest.Short)
	for _, end := range []func(testing.TB){d.Stop, d.Kill} {
		end(t)
		d.Start(t)
		wantOverLink(t, f, d, "d5")
	}
	if now := onlyServing(t, f, "h1", "web", 0); now.ID != importer.ID {
		t.Errorf("the importer was replaced: %s, then %s", importer.Name, now.Name)
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	if after := variables(t, f, d); !slices.Equal(before, after) {
		t.Errorf("link variables of the next release %q, want those of the one before %q", after, before)
	}
}

func TestLinkGoesToAnotherHostAndBack(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	h1 := f.Daemon(t, "h1")
	h2 := f.Daemon(t, "h2", "-c", "db")
	h1.Start(t)
	h2.Start(t)
	web, db := linked(f)
	f.Configure(t, web, db)
	f.Release(t, "web", version("v1"))
	f.Release(t, "db", dockertest.Variant{Version: "d1", Env: []string{"READY_AFTER=10s"}})
	f.Update(t, "db", "web")

	local, remote := f.Running(t, "h1", "db")[0], f.Running(t, "h2", "db")[0]
	answers := func(want dockertest.Container) error {
		_, id, err := overLink(t, f, h1)
		if err == nil && (!strings.HasPrefix(want.ID, id) || id == "") {
			err = fmt.Errorf("%q answers, want %s", id, want.ID[:12])
		}
		return err
	}
	if err := answers(local); err != nil {
		t.Error(err)
	}
	before := variables(t, f, h1)
	f.Docker.Remove(t, local.ID)
	fleettest.Await(t, 9*time.Second, "the link goes to the other host", func() error { return answers(remote) }) // before there is another one here
	fleettest.Await(t, fleettest.Soon, "the link comes back", func() error {
		cs := f.Running(t, "h1", "db")
		if len(cs) == 0 {
			return fmt.Errorf("no exporter runs here")
		}
		return answers(cs[0])
	})
	if after := variables(t, f, h1); !slices.Equal(before, after) {
		t.Errorf("link variables went from %q to %q", before, after)
	}

	// A host that does not run the exporter uses the other one's, and moves back without a loss.
	h1.Stop(t)
	half := f.Daemon(t, "h1", "--bind", h1.IP, "--data-dir", h1.DataDir, "-c", "web")
	half.Start(t)
	fleettest.Await(t, fleettest.Soon, "the link goes to the other host", func() error { return answers(remote) })
	half.Stop(t)
	h1.Start(t)
	local = f.Running(t, "h1", "db")[0]
	fleettest.Await(t, fleettest.Soon, "the link comes back", func() error { return answers(local) })
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: h1.URL(f.Port, "/fetch?env=DB_CLINK&path=/"), Short: 2})
	h2.Stop(t)
	f.Release(t, "db", version("d2"))
	f.Update(t, "db")
	wantOverLink(t, f, h1, "d2")
	load.Stop().NoFailures(t, fleettest.Short)
}
