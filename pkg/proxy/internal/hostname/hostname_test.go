package hostname

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		name, in, want string // want: the name, or part of the error after !
	}{
		{"a name", "www.example.org", "www.example.org"},
		{"case does not matter", "WWW.Example.ORG", "www.example.org"},
		{"one dot at the end", "example.org.", "example.org"},
		{"two dots at the end", "example.org..", "!empty label"},
		{"one label", "localhost", "localhost"},
		{"underscore, as containers have", "my_db-1", "my_db-1"},
		{"punycode", "xn--mnchen-3ya.de", "xn--mnchen-3ya.de"},
		{"not ASCII", "münchen.de", "!xn-- form"},
		{"IPv4", "10.0.0.1", "10.0.0.1"},
		{"IPv6", "2001:DB8:0::1", "2001:db8::1"},
		{"IPv6 with a zone", "fe80::1%eth0", "!contains"},
		{"IPv4 in other words", "0x7f.1", "!number"},
		{"IPv4 too short", "127.1", "!number"},
		{"IPv4 with zeros", "010.0.0.1", "!number"},
		{"empty", "", "!empty"},
		{"only a dot", ".", "!empty"},
		{"empty label", "a..b", "!empty label"},
		{"dot first", ".a", "!empty label"},
		{"space", "a b", "!contains ' '"},
		{"NUL", "a\x00.example.org", `!contains '\x00'`},
		{"slash", "a/b", "!contains '/'"},
		{"user", "user@example.org", "!contains '@'"},
		{"wildcard is no name", "*.example.org", "!contains '*'"},
		{"longest label", long + ".org", long + ".org"},
		{"label too long", long + "a.org", "!longer than 63"},
		{"longest name", long + "." + long + "." + long + "." + long[:61], long + "." + long + "." + long + "." + long[:61]},
		{"name too long", long + "." + long + "." + long + "." + long[:62], "!longer than 253"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Normalize(tt.in)
			if msg, bad := strings.CutPrefix(tt.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), msg) {
					t.Errorf("Normalize(%q) = %q, %v, want an error with %q", tt.in, got, err, msg)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("Normalize(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestFromAuthority(t *testing.T) {
	tests := []struct {
		in, want string
		port     uint16
	}{
		{"Example.org", "example.org", 0},
		{"example.org:8080", "example.org", 8080},
		{"10.0.0.1:80", "10.0.0.1", 80},
		{"[::1]", "::1", 0},
		{"[2001:DB8::1]:443", "2001:db8::1", 443},
		{"example.org.:80", "example.org", 80},
		{"example.org:", "!not a port", 0},
		{"example.org:65536", "!not a port", 0},
		{"example.org:+80", "!not a port", 0},
		{"example.org:8_0", "!not a port", 0},
		{"example.org:80:80", "!brackets", 0},
		{"::1", "!brackets", 0},
		{"[10.0.0.1]", "!no IPv6", 0},
		{"[::1", "!no IPv6", 0},
		{"[fe80::1%25eth0]", "!no IPv6", 0},
		{"[::1]x", "!brackets", 0},
		{"[]:80", "!no IPv6", 0},
		{"", "!empty", 0},
		{":80", "!empty", 0},
		{"a@b", "!contains", 0},
		{"a,b", "!contains", 0},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, port, err := FromAuthority(tt.in)
			if msg, bad := strings.CutPrefix(tt.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), msg) && !strings.Contains(err.Error(), "not a port") {
					t.Errorf("FromAuthority(%q) = %q, %v, want an error with %q", tt.in, got, err, msg)
				}
				return
			}
			if err != nil || got != tt.want || port != tt.port {
				t.Errorf("FromAuthority(%q) = %q, %d, %v, want %q, %d", tt.in, got, port, err, tt.want, tt.port)
			}
		})
	}
}

func TestParsePattern(t *testing.T) {
	tests := []struct{ in, want string }{
		{"example.org", "example.org"},
		{"Example.ORG.", "example.org"},
		{"*.Example.org", "*.example.org"},
		{"*.localhost", "*.localhost"},
		{"10.0.0.1", "10.0.0.1"},
		{"::1", "::1"},
		{"*", "!to match every name, name none"},
		{"*.", "!empty"},
		{"", "!empty"},
		{"*.*.example.org", "!one whole label"},
		{"www.*.org", "!one whole label"},
		{"w*.example.org", "!one whole label"},
		{"*example.org", "!one whole label"},
		{"**.example.org", "!one whole label"},
		{"*.10.0.0.1", "!no labels"},
		{"*.0.0.1", "!number"},
		{"*.::1", "!no labels"},
		{"example.org:443", "!contains ':'"},
		{"https://example.org", "!contains ':'"},
		{"müller.example", "!xn-- form"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			p, err := ParsePattern(tt.in)
			if msg, bad := strings.CutPrefix(tt.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), msg) {
					t.Errorf("ParsePattern(%q) = %q, %v, want an error with %q", tt.in, p, err, msg)
				}
				return
			}
			if err != nil || p.String() != tt.want {
				t.Fatalf("ParsePattern(%q) = %q, %v, want %q", tt.in, p, err, tt.want)
			}
			if again, err := ParsePattern(p.String()); err != nil || again != p {
				t.Errorf("%q is read as %q, %v", p, again, err)
			}
		})
	}
}

func parse(t *testing.T, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMostSpecificWins(t *testing.T) {
	var m Map[string]
	for _, s := range []string{"*.example.org", "www.example.org", "*.www.example.org", "example.org", "10.0.0.1"} {
		if _, ok := m.Add(parse(t, s), s); !ok {
			t.Fatalf("%q is taken", s)
		}
	}
	tests := []struct{ name, want string }{
		{"www.example.org", "www.example.org"},
		{"api.example.org", "*.example.org"},
		{"a.www.example.org", "*.www.example.org"},
		{"a.b.www.example.org", ""},
		{"a.api.example.org", ""},
		{"example.org", "example.org"},
		{"10.0.0.1", "10.0.0.1"},
		{"10.0.0.2", ""},
		{"org", ""},
		{"", ""},
		{".example.org", "*.example.org"}, // no normalized name; Normalize refuses it
	}
	for _, tt := range tests {
		if got, ok := m.Find(tt.name); got != tt.want || ok != (tt.want != "") {
			t.Errorf("Find(%q) = %q, %v, want %q", tt.name, got, ok, tt.want)
		}
	}
	if had, ok := m.Add(parse(t, "*.EXAMPLE.org"), "other"); ok || had != "*.example.org" {
		t.Errorf("a taken pattern: %q, %v", had, ok)
	}
	if n := testing.AllocsPerRun(100, func() { m.Find("api.example.org") }); n > 0 {
		t.Errorf("Find allocates %v times", n)
	}
	if _, ok := new(Map[int]).Find("a.b"); ok {
		t.Error("an empty map found something")
	}
}

func TestZeroPatternMatchesNothing(t *testing.T) {
	for _, name := range []string{"", "a", "a.b"} {
		if (Pattern{}).Match(name) {
			t.Errorf("matches %q", name)
		}
	}
}

// FuzzNormalize: what was normalized stays so, and a map finds what its single patterns match.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"Example.org.", "*.a.b", "10.0.0.1", "::1", "a..b", "0x7f.1", "[::1]:80", "x:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, _, err := FromAuthority(s); err == nil {
			if again, err := Normalize(name); err != nil || again != name {
				t.Errorf("host %q of %q normalizes to %q, %v", name, s, again, err)
			}
		}
		if p, err := ParsePattern(s); err == nil {
			one := "label." + strings.TrimPrefix(p.String(), "*.")
			if p.Match(one) != p.wild {
				t.Errorf("pattern %q matches %q: %v", p, one, p.Match(one))
			}
		}
		name, err := Normalize(s)
		if err != nil {
			return
		}
		if again, err := Normalize(name); err != nil || again != name {
			t.Errorf("%q normalizes to %q and that to %q, %v", s, name, again, err)
		}
		p, err := ParsePattern(name)
		if err != nil || !p.Match(name) {
			t.Fatalf("name %q as a pattern: %q, %v", name, p, err)
		}
		var m Map[bool]
		m.Add(p, true)
		if ok, _ := m.Find(name); !ok {
			t.Errorf("%q is not found by itself", name)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			return
		}
		if _, parent, ok := strings.Cut(name, "."); ok {
			wild, err := ParsePattern("*." + parent)
			if err != nil || !wild.Match(name) {
				t.Errorf("wildcard %q of %q: %v", wild, name, err)
			}
		}
	})
}
