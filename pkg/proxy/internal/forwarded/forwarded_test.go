package forwarded

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		name string
		want Kind
	}{
		{"", None},
		{"Accept", None},
		{"From", None},
		{"X-Forwarded", None},
		{"X-Forwardedfor", None},
		{"X-Custom", None},
		{"X_Custom_Header", None},
		{"Forwarded", Forwarded},
		{"FORWARDED", Forwarded},
		{"Forwarded-For", None},
		{"x-forwarded-for", For},
		{"X-FORWARDED-FOR", For},
		{"X-Forwarded-Host", Host},
		{"X-Forwarded-Proto", Proto},
		{"X-Forwarded-Port", Port},
		{"X-Forwarded-Prefix", Other},
		{"X-Forwarded-User", Other},
		{"X-Forwarded-", Other},
		{"X-Real-IP", RealIP},
		{"x-real-ip", RealIP},
		{"X_Forwarded_For", Alias},
		{"X-Forwarded_For", Alias},
		{"X_Real_IP", Alias},
		{"x_forwarded-user", Alias},
		{"X-Forwarded-User_Name", Alias},
	}
	for _, tt := range tests {
		if got := Classify(tt.name); got != tt.want {
			t.Errorf("Classify(%q) = %v, want %v", tt.name, got, tt.want)
		}
		if got := Classify([]byte(tt.name)); got != tt.want {
			t.Errorf("Classify of bytes %q = %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzClassify: however a name is spelled, a target that reads it as one of ours must not get it from a stranger.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{"X-Forwarded-For", "x_forwarded_for", "FORWARDED", "X-Real_IP", "Accept", "", "X-Forwarded", "X-Forwardedfor"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		cgi := "HTTP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) // as a CGI program sees it
		ours := cgi == "HTTP_FORWARDED" || cgi == "HTTP_X_REAL_IP" || strings.HasPrefix(cgi, "HTTP_X_FORWARDED_")
		for _, c := range []byte(name) {
			if c <= ' ' || c >= 0x7f {
				return // not the name of a header
			}
		}
		got := Classify(name)
		if (got != None) != ours || got != Classify([]byte(name)) {
			t.Errorf("Classify(%q) = %v, though it is ours: %v", name, got, ours)
		}
		if ours && strings.Contains(name, "_") && got != Alias {
			t.Errorf("Classify(%q) = %v, want Alias", name, got)
		}
	})
}

func prefixes(s ...string) (ps []netip.Prefix) {
	for _, p := range s {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

type said struct {
	kind  Kind
	value string
}

func TestHeaders(t *testing.T) {
	const client = "192.0.2.1:4711"
	tests := []struct {
		name   string
		client string
		host   string
		tls    bool
		heard  []said
		want   map[string]string
	}{
		{name: "from scratch", client: client, host: "shop.example", want: map[string]string{
			"Forwarded": "for=192.0.2.1;host=shop.example;proto=http", "X-Forwarded-For": "192.0.2.1",
			"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "192.0.2.1",
		}},
		{name: "over TLS, with a port and IPv6", client: "[2001:db8::1]:4711", host: "shop.example:8443", tls: true, want: map[string]string{
			"Forwarded": `for="[2001:db8::1]";host="shop.example:8443";proto=https`, "X-Forwarded-For": "2001:db8::1",
			"X-Forwarded-Host": "shop.example:8443", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443", "X-Real-Ip": "2001:db8::1",
		}},
		{name: "IPv4 in IPv6, no host", client: "[::ffff:192.0.2.1]:4711", want: map[string]string{
			"Forwarded": "for=192.0.2.1;proto=http", "X-Forwarded-For": "192.0.2.1",
			"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "192.0.2.1",
		}},
		{name: "appended to what a trusted client says", client: "10.0.0.1:1", host: "inner", heard: []said{
			{For, "203.0.113.9"},
			{For, "10.0.0.7"},
			{Forwarded, "for=203.0.113.9"},
			{Host, "shop.example"},
			{Proto, "https"},
			{Port, "443"},
			{Proto, "later ones are ignored"},
		}, want: map[string]string{
			"Forwarded": "for=203.0.113.9, for=10.0.0.1;host=inner;proto=http", "X-Forwarded-For": "203.0.113.9, 10.0.0.7, 10.0.0.1",
			"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "X-Real-Ip": "203.0.113.9",
		}},
		{name: "a lie before the last trusted address", client: "10.0.0.1:1", heard: []said{{For, "6.6.6.6, 203.0.113.9:80, 10.0.0.7"}, {RealIP, "6.6.6.6"}}, want: map[string]string{
			"Forwarded": "for=10.0.0.1;proto=http", "X-Forwarded-For": "6.6.6.6, 203.0.113.9:80, 10.0.0.7, 10.0.0.1",
			"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "203.0.113.9",
		}},
		{name: "nonsense in the list", client: "10.0.0.1:1", heard: []said{{For, "6.6.6.6, unknown, 10.0.0.7"}}, want: map[string]string{
			"Forwarded": "for=10.0.0.1;proto=http", "X-Forwarded-For": "6.6.6.6, unknown, 10.0.0.7, 10.0.0.1",
			"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "10.0.0.7",
		}},
		{name: "only a real IP", client: "10.0.0.1:1", heard: []said{{RealIP, "203.0.113.9"}, {For, " "}}, want: map[string]string{
			"Forwarded": "for=10.0.0.1;proto=http", "X-Forwarded-For": "10.0.0.1",
			"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "203.0.113.9",
		}},
		{name: "a real IP that is none", client: "10.0.0.1:1", heard: []said{{RealIP, "localhost"}, {Other, "x"}, {None, "x"}, {Alias, "x"}}, want: map[string]string{
			"Forwarded": "for=10.0.0.1;proto=http", "X-Forwarded-For": "10.0.0.1",
			"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8443", "X-Real-Ip": "10.0.0.1",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Origin{
				Client: netip.MustParseAddrPort(tt.client), Local: netip.MustParseAddrPort("192.0.2.2:8443"), Host: tt.host, TLS: tt.tls,
				Trusted: prefixes("10.0.0.0/8"),
			}
			for _, h := range tt.heard {
				o.Heard(h.kind, h.value)
			}
			got := map[string]string{}
			o.Each(func(name, value string) { got[name] = value })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			lines := map[string]string{}
			for line := range strings.SplitSeq(strings.TrimSuffix(string(o.AppendLines(nil)), "\r\n"), "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				lines[name] = value
			}
			if diff := cmp.Diff(got, lines); diff != "" {
				t.Errorf("lines differ from what Each says: %s", diff)
			}
		})
	}
}

func TestTrusts(t *testing.T) {
	ps := prefixes("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "fd00::1": true, "fe80::1%eth0": false, "fd00::1%eth0": true,
		"127.0.0.1": true, "127.0.0.2": false, "::a00:1": false,
	} {
		if got := Trusts(ps, netip.MustParseAddr(addr)); got != want {
			t.Errorf("trusts %s = %v, want %v", addr, got, want)
		}
	}
	if Trusts(ps, netip.Addr{}) || Trusts(nil, netip.MustParseAddr("10.0.0.1")) {
		t.Error("nobody is trusted")
	}
}

func TestHostIsQuoted(t *testing.T) {
	o := Origin{Host: `a";for=6.6.6.6;x="\`}
	if got, want := string(o.AppendValue(nil, Forwarded)), `for=unknown;host="a\";for=6.6.6.6;x=\"\\";proto=http`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLinesAllocateNothing(t *testing.T) {
	o := Origin{Client: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("192.0.2.2:80"), Host: "shop.example"}
	b := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if Classify(b[:0]) == None {
			b = o.AppendLines(b[:0])
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzHeard: whatever a trusted client says, the lines that come out are ours, one for each name.
func FuzzHeard(f *testing.F) {
	f.Add("1.2.3.4, ::1", "for=1", "h", "[::1]:80")
	f.Add(",,,", ";", "", "%")
	f.Fuzz(func(t *testing.T, list, fwd, host, ip string) {
		if strings.ContainsAny(list+fwd+host+ip, "\r\n\x00") {
			return
		}
		o := Origin{Client: netip.MustParseAddrPort("10.0.0.1:1"), Local: netip.MustParseAddrPort("10.0.0.2:80"), Host: host, Trusted: prefixes("10.0.0.0/8")}
		for k, v := range map[Kind]string{For: list, Forwarded: fwd, RealIP: ip} {
			o.Heard(k, v)
		}
		seen := map[Kind]bool{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(o.AppendLines(nil)), "\r\n"), "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			k := Classify(name)
			if k < Forwarded || seen[k] {
				t.Fatalf("line %q is not ours, or is there twice", line)
			}
			seen[k] = true
			if _, err := netip.ParseAddr(value); k == RealIP && err != nil {
				t.Fatalf("X-Real-IP %q: %v", value, err)
			}
			if k == For && !strings.HasSuffix(value, "10.0.0.1") {
				t.Fatalf("X-Forwarded-For %q does not end in the client", value)
			}
		}
	})
}

func BenchmarkAppendLines(b *testing.B) {
	o := Origin{Client: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("192.0.2.2:80"), Host: "shop.example"}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = o.AppendLines(buf[:0])
	}
}
