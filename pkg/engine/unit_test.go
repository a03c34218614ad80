package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestEnvironmentHasEachNameOnce(t *testing.T) {
	own := []component.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "x=y"}, {Name: "A", Value: "2"}}
	got := environment(own, []string{"B=link", "C=", "D"})
	if want := []string{"A=2", "B=link", "C=", "D"}; !slices.Equal(got, want) {
		t.Errorf("environment = %q, want %q", got, want)
	}
}

func TestOptionsRefuse(t *testing.T) {
	tests := []struct {
		name string
		spec component.Spec
		want string
	}{
		{"memory", component.Spec{Resources: component.Resources{Memory: "lots"}}, "resources.memory"},
		{"no memory", component.Spec{Resources: component.Resources{Memory: "0"}}, "resources.memory"},
		{"processors", component.Spec{Resources: component.Resources{CPUs: -1}}, "resources.cpus"},
		{"zero byte", component.Spec{EnvironmentVariables: []component.EnvVar{{Name: "SECRET", Value: "s3cret\x00"}}}, `"SECRET"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := options(component.StartRequest{Release: component.Release{Spec: tt.spec}}, "i", nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("options = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestBindingsInDockersForm(t *testing.T) {
	tests := []struct {
		name  string
		in    component.Binding
		bind  string
		link  link
		fails bool
	}{
		{"plain", component.Binding{External: "/a", Volume: "/b"}, "/a:/b", link{}, false},
		{"read-only", component.Binding{External: "/a", Volume: "/b:ro"}, "/a:/b:ro", link{}, false},
		{"named volume", component.Binding{External: "data", Volume: "/b"}, "data:/b", link{}, false},
		{"other braces", component.Binding{External: "/{a}/{0}", Volume: "/b"}, "/{a}/{0}:/b", link{}, false},
		{
			"placeholder",
			component.Binding{External: "/a/{container_id}/c", Volume: "/b"},
			"/a/.gantryd-n-0:/b",
			link{"/a/.gantryd-n-0", "/a/{container_id}/c"},
			false,
		},
		{
			"placeholder in a name",
			component.Binding{External: "/a/x{container_id}.d/{container_id}", Volume: "/b"},
			"/a/.gantryd-n-0:/b",
			link{"/a/.gantryd-n-0", "/a/x{container_id}.d/{container_id}"},
			false,
		},
		{
			"placeholder at the root",
			component.Binding{External: "/{container_id}", Volume: "/b"},
			"/.gantryd-n-0:/b",
			link{"/.gantryd-n-0", "/{container_id}"},
			false,
		},
		{"relative with placeholder", component.Binding{External: "{container_id}", Volume: "/b"}, "", link{}, true},
		{"colon", component.Binding{External: "/a:b", Volume: "/b"}, "", link{}, true},
		{"no volume", component.Binding{External: "/a"}, "", link{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			binds, links, err := bindings([]component.Binding{tt.in}, "n")
			if tt.fails {
				if err == nil {
					t.Errorf("bindings(%+v) = %v, want an error", tt.in, binds)
				}
				return
			}
			if err != nil || !slices.Equal(binds, []string{tt.bind}) {
				t.Fatalf("bindings(%+v) = %v, %v; want %q", tt.in, binds, err, tt.bind)
			}
			if tt.link != (link{}) && !slices.Equal(links, []link{tt.link}) || tt.link == (link{}) && len(links) > 0 {
				t.Errorf("links = %v, want %v", links, tt.link)
			}
		})
	}
}

func TestContainerNames(t *testing.T) {
	r := component.StartRequest{Component: "web front/é", Release: component.Release{Generation: 12}}
	a, b := containerName("shop", r), containerName("shop", r)
	if a == b || !strings.HasPrefix(a, "gantryd-shop-web-front-") || !strings.Contains(a, "-12-") {
		t.Errorf("names = %q, %q", a, b)
	}
	long := containerName(strings.Repeat("p", 500), r)
	if len(long) > 200 {
		t.Errorf("name has %d bytes", len(long))
	}
}

func TestGatewayOf(t *testing.T) {
	tests := []struct {
		name  string
		pools []network.IPAMConfig
		want  string
	}{
		{"written down", []network.IPAMConfig{{Subnet: "172.17.0.0/16", Gateway: "172.17.0.9"}}, "172.17.0.9"},
		{"with a mask", []network.IPAMConfig{{Gateway: "172.17.0.1/16"}}, "172.17.0.1"},
		{"from the subnet", []network.IPAMConfig{{Subnet: "172.30.4.0/24"}}, "172.30.4.1"},
		{"IPv4 first", []network.IPAMConfig{{Gateway: "fd00::1"}, {Gateway: "10.0.0.1"}}, "10.0.0.1"},
		{"IPv6 alone", []network.IPAMConfig{{Subnet: "fd00::/64"}}, "fd00::1"},
		{"nothing", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := gatewayOf(tt.pools)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("gatewayOf(%+v) = %q, %v; want %q", tt.pools, got, err, tt.want)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	two := &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{
		"bridge": {IPAddress: "172.17.0.2"}, "own": {IPAddress: "172.18.0.2"},
	}}
	v6 := &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{"six": {GlobalIPv6Address: "fd00::2"}}}
	tests := []struct {
		name     string
		networks []string
		mode     string
		settings *container.NetworkSettingsSummary
		want     string
	}{
		{"default", nil, "default", two, "172.17.0.2"},
		{"the first network named", []string{"own", "bridge"}, "own", two, "172.18.0.2"},
		{"host", []string{"host"}, "host", nil, "127.0.0.1"},
		{"none", []string{"none"}, "none", nil, ""},
		{"IPv6, network named by its ID", []string{"0123abcd"}, "0123abcd", v6, "fd00::2"},
		{"not connected", []string{"gone"}, "gone", two, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := container.Summary{NetworkSettings: tt.settings}
			s.HostConfig.NetworkMode = tt.mode
			if got := address(tt.networks, s); got != tt.want {
				t.Errorf("address = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRunStates(t *testing.T) {
	want := map[container.ContainerState]component.RunState{
		"created": component.RunCreated, "running": component.RunRunning, "paused": component.RunRunning,
		"restarting": component.RunExited, "removing": component.RunExited, "exited": component.RunExited, "dead": component.RunExited,
	}
	for in, want := range want {
		if got := runState(in); got != want {
			t.Errorf("runState(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestEventsThatMatter(t *testing.T) {
	for a, want := range map[events.Action]bool{
		"start": true, "die": true, "oom": true, "health_status: healthy": true, "health_status": true, "rename": true,
		"exec_create: /app x": false, "exec_die": false, "attach": false, "top": false, "resize": false,
	} {
		if got := matters(a); got != want {
			t.Errorf("matters(%q) = %v, want %v", a, got, want)
		}
	}
}

// frame is one frame of the Engine's log stream: 1 is stdout, 2 stderr.
func frame(stream byte, text string) []byte {
	h := make([]byte, 8, 8+len(text))
	h[0] = stream
	binary.BigEndian.PutUint32(h[4:], uint32(len(text)))
	return append(h, text...)
}

func TestSplitKeepsLinesOfBothStreamsApart(t *testing.T) {
	in := slices.Concat(frame(1, "a1\nb"), frame(2, "e1\n"), frame(1, "1\n"), frame(2, "tail"), frame(1, "\n"))
	out := lines{max: 10}
	if err := split(bytes.NewReader(in), false, &out); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a1", "e1", "b1", "", "tail"}; !slices.Equal(out.kept, want) {
		t.Errorf("lines = %q, want %q", out.kept, want)
	}
	out = lines{max: 2}
	if err := split(strings.NewReader("1\n2\r\n3"), true, &out); err != nil {
		t.Fatal(err)
	}
	if want := []string{"2", "3"}; !slices.Equal(out.kept, want) {
		t.Errorf("lines of a terminal = %q, want %q", out.kept, want)
	}
}

func FuzzCleanLine(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31mred", "a\tb", "é\xff", strings.Repeat("é", maxLine), "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanLine(s)
		if !utf8.ValidString(got) || len(got) > 6*maxLine+10 {
			t.Errorf("cleanLine(%q) = %q: not UTF-8, or %d bytes", s, got, len(got))
		}
		for _, r := range got {
			if r < ' ' && r != '\t' || r == 0x7f || r == 0x9b {
				t.Errorf("cleanLine(%q) = %q has %U", s, got, r)
			}
		}
	})
}

func TestProgressLines(t *testing.T) {
	var got []string
	p := newProgress("web:42", 0, func(s string) { got = append(got, s) })
	p.start()
	message := func(id, status string, current, total int64) {
		m := pullMessage{ID: id, Status: status}
		m.Progress.Current, m.Progress.Total = current, total
		p.see(m)
	}
	message("42", "Pulling from web", 0, 0)
	message("aa", "Already exists", 0, 0)
	message("bb", "Pulling fs layer", 0, 0)
	message("bb", "Downloading", 1e6, 4e6)
	message("bb", "Download complete", 0, 0)
	message("bb", "Extracting", 1e6, 4e6)
	message("bb", "Pull complete", 0, 0)
	message("", "Digest: sha256:abc", 0, 0)
	message("", "Status: Downloaded newer image for web:42", 0, 0)
	p.end()
	want := []string{
		"pulling web:42",
		"pulling web:42: 1 of 1 layers",
		"pulling web:42: 1 of 2 layers, 1MB of 4MB",
		"pulling web:42: 1 of 2 layers, 4MB of 4MB",
		"pulling web:42: 2 of 2 layers, 4MB of 4MB",
		"pulled web:42: Downloaded newer image for web:42",
	}
	if d := cmp.Diff(want, got); d != "" || p.digest != "sha256:abc" {
		t.Errorf("progress (-want +got):\n%s\ndigest %q", d, p.digest)
	}
	if p.see(pullMessage{ID: "bb", Status: "Retrying in 3 seconds"}) {
		t.Error("waiting to try again counts as progress")
	}

	quick := newProgress("x", time.Hour, func(s string) { got = append(got, s) })
	got = nil
	quick.start()
	for i := range 100 {
		quick.see(pullMessage{ID: fmt.Sprint(i), Status: "Already exists"})
	}
	if len(got) != 1 {
		t.Errorf("%d lines in no time, want the first only", len(got))
	}
}

func TestImageNames(t *testing.T) {
	named, err := parseRef("example.com:5000/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	digests := []string{"other/b@sha256:" + strings.Repeat("1", 64), "example.com:5000/a/b@sha256:" + strings.Repeat("2", 64)}
	if got, want := digestOf(named, digests), "sha256:"+strings.Repeat("2", 64); got != want {
		t.Errorf("digestOf = %q, want %q", got, want)
	}
	if got := digestOf(named, digests[:1]); got != "" {
		t.Errorf("digestOf another repository = %q, want none", got)
	}
	if !sameID("sha256:ab", "ab") || sameID("sha256:ab", "sha256:abc") {
		t.Error("sameID does not compare IDs")
	}
	if got := imageName("sha256:0123456789abcdef"); got != "0123456789ab" {
		t.Errorf("imageName = %q, want the short ID", got)
	}
}

func TestRemoveLinksRemovesOnlyOurs(t *testing.T) {
	dir := t.TempDir()
	links := []link{{dir + "/.gantryd-a", dir + "/{container_id}"}}
	if err := makeLinks(links, "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	if err := makeLinks(links, "0123456789abcdef"); err == nil {
		t.Error("a link was made over something that is there")
	}
	removeLinks([]string{dir + "/0123456789ab", dir + "/.gantryd-absent", dir + "/.gantryd-a"})
	left, err := glob(dir)
	if err != nil || !slices.Equal(left, []string{"0123456789ab"}) {
		t.Errorf("left = %v, %v; want the directory", left, err)
	}
}
