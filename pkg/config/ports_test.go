package config_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

// TestMistakesOfAPort gives one port of one component some fields. Paths are inside that port.
func TestMistakesOfAPort(t *testing.T) {
	const http, tcp = "kind: http, ", "kind: tcp, "
	tests := []struct {
		name, fields string
		want         []string
	}{
		{"all of an HTTP port", http + `match: {hosts: [a.example, "*.b.example", 10.0.0.1], path: /api/v1/}, tls: {certs: [{cert: /c, key: /k}]}, upstream: h2c, trusted: [192.0.2.1/32, "fd00::/8"], pages: /srv/pages, maxConns: 9, maxConnsPerClient: 1, proxyProtocol: {from: [0.0.0.0/0]}`, nil},
		{"all of a TCP port", tcp + `match: {sni: ["*.db.example"]}, maxConns: 9, maxConnsPerClient: 1, idleTimeout: 1h, lingerTimeout: 30s, proxyProtocol: {from: [0.0.0.0/0], to: v2}`, nil},
		{"HTTP fields of a TCP port", `match: {hosts: [a.example], path: /a}, tls: {certs: [{cert: /c, key: /k}]}, upstream: h2c, trusted: [10.0.0.0/8], pages: /p`, []string{
			"match.hosts: match.hosts means nothing for a port of kind tcp", "match.path: match.path means nothing for a port of kind tcp",
			"tls: tls means nothing for a port of kind tcp", "upstream: upstream means nothing for a port of kind tcp",
			"trusted: trusted means nothing for a port of kind tcp", "pages: pages means nothing for a port of kind tcp",
		}},
		{"TCP fields of an HTTP port", http + `match: {sni: [a.example]}, idleTimeout: 1s, lingerTimeout: 1s, proxyProtocol: {to: v1}`, []string{
			"match.sni: match.sni means nothing for a port of kind http", "idleTimeout: idleTimeout means nothing for a port of kind http",
			"lingerTimeout: lingerTimeout means nothing for a port of kind http", "proxyProtocol.to: proxyProtocol.to means nothing for a port of kind http",
		}},
		{"empty match", http + `match: {}`, []string{"match: names nothing: give it hosts, path or sni, or leave it out"}},
		{"hosts", http + `match: {hosts: ["", "a..b", "a b", "*", "*.*.a", "a.*", "http://a", "a:80", "ä.example", "127.1", "*.0.0.1", A.example, a.example.]}`, []string{
			`match.hosts[0]: "" is not a host name such as a.example or *.example.org: labels of letters, digits, "-" and "_", at most 63 each`,
			`match.hosts[1]: "a..b" is not a host name such as a.example or *.example.org: labels of letters, digits, "-" and "_", at most 63 each`,
			`match.hosts[2]: "a b" is not a host name such as a.example or *.example.org: labels of letters, digits, "-" and "_", at most 63 each`,
			`match.hosts[3]: "*" is not a host name such as a.example or *.example.org: a * stands for the first label as a whole`,
			`match.hosts[4]: "*.*.a" is not a host name such as a.example or *.example.org: a * stands for the first label as a whole`,
			`match.hosts[5]: "a.*" is not a host name such as a.example or *.example.org: a * stands for the first label as a whole`,
			`match.hosts[6]: "http://a" is not a host name such as a.example or *.example.org: neither port, address in brackets nor URL`,
			`match.hosts[7]: "a:80" is not a host name such as a.example or *.example.org: neither port, address in brackets nor URL`,
			`match.hosts[8]: "ä.example" is not a host name such as a.example or *.example.org: letters of other alphabets are written in their xn-- form`,
			`match.hosts[9]: "127.1" is not a host name such as a.example or *.example.org: it ends in a number and is no address`,
			`match.hosts[10]: "*.0.0.1" is not a host name such as a.example or *.example.org: it ends in a number and is no address`,
			`match.hosts[12]: "a.example." is given twice, first by components[0].ports[0].match.hosts[11]`,
		}},
		{"server names", tcp + `match: {sni: [a/b]}`, []string{`match.sni[0]: "a/b" is not a host name such as a.example or *.example.org: neither port, address in brackets nor URL`}},
		{"relative path", http + `match: {path: api}`, []string{`match.path: "api" does not start with "/"`}},
		{"path with query", http + `match: {path: "/a?b"}`, []string{`match.path: "/a?b" holds more than a path: it is compared as it is, without query, escapes or wildcards`}},
		{"path with dots", http + `match: {path: /a/../b}`, []string{`match.path: "/a/../b" holds an empty part, "." or "..", which no request has`}},
		{"path with space", http + `match: {path: "/a b"}`, []string{`match.path: "/a b" holds a space or a control character: write it as %20 and the like`}},
		{"TLS without certificates", http + `tls: {}`, []string{"tls.certs: Missing required property certs under object TLS"}},
		{"TLS with no certificate", http + `tls: {certs: []}`, []string{"tls.certs: TLS needs a certificate: a list of cert and key, at least one"}},
		{"certificates", http + `tls: {certs: [{cert: c.pem, key: k.pem}, {cert: /c}, {cert: /c, key: /k}]}`, []string{
			`tls.certs[0].cert: "c.pem" is not an absolute path`, `tls.certs[0].key: "k.pem" is not an absolute path`,
			`tls.certs[1].key: Missing required property key under object certificate`,
			`tls.certs[2].cert: "/c" is given twice, first by components[0].ports[0].tls.certs[1]`,
		}},
		{"upstream", http + `upstream: h2`, []string{`upstream: "h2" is not one of http1, h2c; did you mean "h2c"?`}},
		{"limits", tcp + `maxConns: -1, maxConnsPerClient: 20000000`, []string{
			`maxConns: -1 is out of range: 0 to 10000000`, `maxConnsPerClient: 20000000 is out of range: 0 to 10000000`,
		}},
		{"timeouts", tcp + `idleTimeout: 5, lingerTimeout: -5s`, []string{
			`idleTimeout: expected a duration with its unit, such as "5s", found the number 5`, `lingerTimeout: "-5s" is negative`,
		}},
		{"ranges", tcp + `proxyProtocol: {from: [10.0.0.1, 10.0.0.1/8, ten, "::1", 10.0.0.0/33]}`, []string{
			`proxyProtocol.from[0]: "10.0.0.1" is one address: write it as 10.0.0.1/32`,
			`proxyProtocol.from[1]: "10.0.0.1/8" is not the start of its range: write 10.0.0.0/8`,
			`proxyProtocol.from[2]: "ten" is not a range of addresses such as 10.0.0.0/8`,
			`proxyProtocol.from[3]: "::1" is one address: write it as ::1/128`,
			`proxyProtocol.from[4]: "10.0.0.0/33" is not a range of addresses such as 10.0.0.0/8`,
		}},
		{"trusted", http + `trusted: [all]`, []string{`trusted[0]: "all" is not a range of addresses such as 10.0.0.0/8`}},
		{"version of PROXY", tcp + `proxyProtocol: {to: "2"}`, []string{`proxyProtocol.to: "2" is not one of v1, v2`}},
		{"pages", http + `pages: pages`, []string{`pages: "pages" is not an absolute path`}},
		{"kind nobody knows", `kind: udp, tls: {certs: [{cert: /c, key: /k}]}`, []string{`kind: "udp" is not one of tcp, http`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("x.yaml", []byte("components:\n  - name: web\n    repo: my/web\n    ports:\n    - {external: 80, container: 80, "+tt.fields+"}\n"))
			got := told(err)
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], "components[0].ports[0].")
			}
			want := slices.Clone(tt.want)
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("mistakes of %s (-want +got):\n%s", tt.fields, diff)
			}
			for _, m := range config.Mistakes(err) {
				if m.Line != 5 || m.Column < 1 {
					t.Errorf("%s is on line %d, column %d, want line 5", m.Path, m.Line, m.Column)
				}
			}
		})
	}
}

func TestPortsShareAnExternalPortWhenEachIsTold(t *testing.T) {
	http := func(hosts []string, path string) component.Port {
		return component.Port{External: 80, Container: 1, Kind: component.KindHTTP, Match: component.Match{Hosts: hosts, Path: path}}
	}
	sni := func(names ...string) component.Port {
		return component.Port{External: 80, Container: 1, Match: component.Match{SNI: names}}
	}
	with := func(p component.Port, f func(*component.Port)) component.Port { f(&p); return p }
	tls := func(p *component.Port) { p.TLS.Certs = []component.KeyPair{{Cert: "/c", Key: "/k"}} }
	from := func(prefix string) func(*component.Port) {
		return func(p *component.Port) { p.ProxyProtocol.From = []string{prefix} }
	}
	const a0 = `components[0].ports[0], of component "a"`
	tests := []struct {
		name string
		a, b component.Port
		want string
	}{
		{"two hosts", http([]string{"a"}, ""), http([]string{"b"}, ""), ""},
		{"a host and the rest", http([]string{"a"}, ""), http(nil, ""), ""},
		{"two paths of one host", http([]string{"a"}, "/x"), http([]string{"a"}, "/xy"), ""},
		{"a path and the rest", http(nil, "/x"), http(nil, ""), ""},
		{"a name and its pattern", http([]string{"a.example"}, ""), http([]string{"*.example"}, ""), ""},
		{"server names and the rest", sni("a"), sni(), ""},
		{"the rest twice", http(nil, ""), http(nil, "/"), "external: external port 80 is taken by " + a0 + "; a match on both could tell them apart"},
		{"one host of several", http([]string{"a", "B."}, ""), http([]string{"c", "b"}, "/"), "match: b of external port 80 is taken by " + a0},
		{"one path in two spellings", http(nil, "/x"), http(nil, "/x/"), "match: /x of external port 80 is taken by " + a0},
		{"one host and path", http([]string{"a"}, "/x"), http([]string{"a"}, "/x"), "match: a/x of external port 80 is taken by " + a0},
		{"one server name", sni("a", "b"), sni("b"), "match: b of external port 80 is taken by " + a0},
		{"two kinds", http(nil, "/x"), sni("a"), "kind: external port 80 is of kind http for " + a0},
		{"TLS for one only", with(http([]string{"a"}, ""), tls), http([]string{"b"}, ""), "tls: external port 80 is to speak TLS for all that share it or for none; see " + a0},
		{"TLS for both", with(http([]string{"a"}, ""), tls), with(http([]string{"b"}, ""), tls), ""},
		{"PROXY headers from others", with(sni("a"), from("10.0.0.0/8")), with(sni("b"), from("10.0.0.0/16")), "proxyProtocol.from: external port 80 expects PROXY headers from others for " + a0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			if tt.want != "" {
				want = []string{"components[1].ports[0]." + tt.want}
			}
			two := component.Project{Components: []component.Spec{
				{Name: "a", Repo: "r", Ports: []component.Port{tt.a}}, {Name: "b", Repo: "r", Ports: []component.Port{tt.b}},
			}}
			if diff := cmp.Diff(want, told(config.Validate(two))); diff != "" {
				t.Errorf("two components (-want +got):\n%s", diff)
			}
			for i := range want {
				want[i] = strings.Replace(want[i], "components[1].ports[0]", "components[0].ports[1]", 1)
			}
			one := component.Project{Components: []component.Spec{{Name: "a", Repo: "r", Ports: []component.Port{tt.a, tt.b}}}}
			if diff := cmp.Diff(want, told(config.Validate(one))); diff != "" {
				t.Errorf("one component (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMaintenanceNeedsSomebodyToTell(t *testing.T) {
	p := component.Project{Components: []component.Spec{{Name: "a", Repo: "r", Maintenance: true, Ports: []component.Port{{External: 1, Container: 1}}}}}
	want := []string{"components[0].maintenance: means nothing without a port of kind http: there is nobody to tell"}
	if diff := cmp.Diff(want, told(config.Validate(p))); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
	p.Components[0].Ports[0].Kind = component.KindHTTP
	if err := config.Validate(p); err != nil {
		t.Error(err)
	}
}

// An empty list of termination checks is none, and no list the default: the stored form tells them apart.
func TestNoTerminationChecksAreNotTheDefault(t *testing.T) {
	for _, form := range []string{"x.json", "x.yaml"} {
		for field, want := range map[string]int{`, "terminationChecks": []`: 0, ``: -1, `, "terminationChecks": [{"kind": "connection"}]`: 1} {
			p, err := config.Parse(form, []byte(`{"components": [{"name": "a", "repo": "r"`+field+`}]}`))
			if err != nil {
				t.Fatal(err)
			}
			stored, err := config.Canonical(p)
			if err != nil {
				t.Fatal(err)
			}
			var back component.Project
			if err := json.Unmarshal(stored, &back); err != nil {
				t.Fatal(err)
			}
			cloned, err := config.Override(back.Components[0], []string{"tag=2"})
			if err != nil {
				t.Fatal(err)
			}
			for _, checks := range [][]component.Check{p.Components[0].TerminationChecks, back.Components[0].TerminationChecks, cloned.TerminationChecks} {
				got := len(checks)
				if checks == nil {
					got = -1
				}
				if got != want {
					t.Errorf("%s with %q has %d checks, want %d (-1: the default)", form, field, got, want)
				}
			}
		}
	}
}

func TestOverridesOfPorts(t *testing.T) {
	s := component.Spec{Name: "a", Repo: "r", Ports: []component.Port{{External: 443, Container: 1, Kind: component.KindHTTP}}}
	got, err := config.Override(s, []string{
		"ports.443.match.hosts=a.example", "ports.443.match.hosts=b.example", "ports.443.match.path=/x", "maintenance=true",
		`ports.443.tls.certs."/c.pem"=/k.pem`, "ports.443.maxConns=5", "ports.443.trusted=10.0.0.0/8", "ports.443.pages=/p",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := s
	want.Maintenance = true
	want.Ports = []component.Port{{
		External: 443, Container: 1, Kind: component.KindHTTP, MaxConns: 5, Trusted: []string{"10.0.0.0/8"}, Pages: "/p",
		Match: component.Match{Hosts: []string{"a.example", "b.example"}, Path: "/x"},
		TLS:   component.TLS{Certs: []component.KeyPair{{Cert: "/c.pem", Key: "/k.pem"}}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("overridden (-want +got):\n%s", diff)
	}
	got.Ports = append(got.Ports, component.Port{External: 443, Container: 2, Kind: component.KindHTTP})
	_, err = config.Override(got, []string{"ports.443.container=7"})
	if err == nil || !strings.Contains(err.Error(), "2 entries of ports are called 443") {
		t.Errorf("an override of two ports at once gives %v", err)
	}
}
