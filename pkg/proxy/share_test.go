package proxy

import (
	"errors"
	"strings"
	"testing"
)

func TestMatchClash(t *testing.T) {
	tests := []struct {
		name, kind string
		a, b       Match
		want       string // empty: they may share an address
	}{
		{"nothing and nothing", TCP, Match{}, Match{}, "all that no other one matches"},
		{"a name and nothing", TCP, Match{SNI: []string{"a.example"}}, Match{}, ""},
		{"other names", TCP, Match{SNI: []string{"a.example"}}, Match{SNI: []string{"b.example"}}, ""},
		{"one name", TCP, Match{SNI: []string{"b.example", "a.example"}}, Match{SNI: []string{"A.example."}}, `"a.example"`},
		{"a name and its pattern", TCP, Match{SNI: []string{"a.example"}}, Match{SNI: []string{"*.example"}}, ""},
		{"one pattern", TCP, Match{SNI: []string{"*.example"}}, Match{SNI: []string{"*.Example"}}, `"*.example"`},
		{"other hosts", HTTP, Match{Hosts: []string{"a"}}, Match{Hosts: []string{"b"}}, ""},
		{"other paths of a host", HTTP, Match{Hosts: []string{"a"}, Path: "/x"}, Match{Hosts: []string{"a"}, Path: "/y"}, ""},
		{"one path of a host", HTTP, Match{Hosts: []string{"a"}, Path: "/x"}, Match{Hosts: []string{"a"}, Path: "/x/"}, `"a/x"`},
		{"a path and the root", HTTP, Match{Path: "/x"}, Match{Path: "/"}, ""},
		{"the root and nothing", HTTP, Match{Path: "/"}, Match{}, "all that no other one matches"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := tt.a.canonical(tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			b, err := tt.b.canonical(tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.clash(b); got != tt.want {
				t.Errorf("%+v and %+v both match %s, want %s", a, b, got, tt.want)
			}
			if got := b.clash(a); got != tt.want {
				t.Errorf("the other way round: %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMatchThatMakesNoSense(t *testing.T) {
	tests := []struct {
		name, kind string
		match      Match
		want       string
	}{
		{"hosts of TCP", TCP, Match{Hosts: []string{"a"}}, "hosts and paths are of HTTP"},
		{"path of TCP", TCP, Match{Path: "/a"}, "hosts and paths are of HTTP"},
		{"SNI of HTTP", HTTP, Match{SNI: []string{"a"}}, "for HTTP match hosts"},
		{"relative path", HTTP, Match{Path: "a"}, `path "a" does not begin with /`},
		{"no name", TCP, Match{SNI: []string{""}}, `host name "": is empty`},
		{"star inside", HTTP, Match{Hosts: []string{"a.*.b"}}, `"a.*.b": * stands for one whole label`},
		{"only a star", HTTP, Match{Hosts: []string{"*."}}, `"*.": host name "": is empty`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			l := tcp("", "")
			l.Kind, l.Match = tt.kind, tt.match
			if err := p.Apply("test", []Listener{l}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Apply = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestOwnersShareAnAddress: each owner has its part, and what one does leaves the other alone.
func TestOwnersShareAnAddress(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	rest := web1(site(t, "rest", nil))
	apply(t, p, rest)
	addr := addrOf(t, p)
	part := Listener{Name: "part", Kind: HTTP, Addrs: []string{addr}, Match: Match{Path: "/part"}}
	if err := p.Apply("other", []Listener{part}); err != nil {
		t.Fatal(err)
	}
	if got := p.Addr("part"); len(got) != 1 || got[0] != addr {
		t.Errorf("addresses of the part: %q", got)
	}
	for what, mod := range map[string]func(*Listener){
		`matches "/part" too`:  func(l *Listener) { l.Match.Path = "/part/" },
		`whose kind is "http"`: func(l *Listener) { l.Kind, l.Match = TCP, Match{SNI: []string{"a"}} },
	} {
		third := part
		third.Name = "third"
		mod(&third)
		err := p.Apply("third", []Listener{third})
		if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), `"third"`) {
			t.Errorf("Apply = %v, want who has the address and %q", err, what)
		}
	}
	if got := status(t, "http://"+addr); got != "200 OK" {
		t.Errorf("beside another owner's part: %s", got)
	}
	apply(t, p) // the rest leaves
	if got := status(t, "http://"+addr); got != "404 Not Found" {
		t.Errorf("without a listener for it: %s", got)
	}
	apply(t, p, rest)
	rest.Addrs = []string{addr}
	apply(t, p, rest)
	if err := p.Apply("other", nil); err != nil {
		t.Fatal(err)
	}
	if got := status(t, "http://"+addr); got != "200 OK" {
		t.Errorf("after the other owner left: %s", got)
	}
}

// TestClashKeepsWhatWasThere: a listener that may not have another part keeps the one it has.
func TestClashKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := web1(site(t, "first", nil))
	apply(t, p, l)
	addr := addrOf(t, p)
	part := Listener{Name: "part", Kind: HTTP, Addrs: []string{addr}, Match: Match{Hosts: []string{"b.example"}}}
	if err := p.Apply("other", []Listener{part}); err != nil {
		t.Fatal(err)
	}
	l.Addrs, l.Match = []string{addr}, part.Match
	if err := p.Apply("test", []Listener{l}); !errors.Is(err, ErrTaken) {
		t.Errorf("Apply = %v, want taken", err)
	}
	if got := status(t, "http://"+addr); got != "200 OK" {
		t.Errorf("the part it had: %s", got)
	}
}
