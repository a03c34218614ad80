package clienthello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
)

// TestRealClients: the name that clients of Go ask for is found, however their bytes arrive.
func TestRealClients(t *testing.T) {
	const name = "www.example.org"
	protocols := []string{"h2", "http/1.1"}
	only := func(version uint16) *tls.Config {
		return &tls.Config{ServerName: name, MinVersion: version, MaxVersion: version}
	}
	tests := []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"defaults, with a post-quantum key share", &tls.Config{ServerName: name, NextProtos: protocols}, name},
		{"TLS 1.0", only(tls.VersionTLS10), name},
		{"TLS 1.1", only(tls.VersionTLS11), name},
		{"TLS 1.2", only(tls.VersionTLS12), name},
		{"TLS 1.3", only(tls.VersionTLS13), name},
		{"small key share", &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}, name},
		{"TLS 1.2 with a session ticket", withTicket(t, tls.VersionTLS12, name), name},
		{"TLS 1.3 with a session ticket", withTicket(t, tls.VersionTLS13, name), name},
		{"upper case", &tls.Config{ServerName: "WWW.Example.ORG"}, name},
		{"no name, as for an address", &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}, ""},
		{"encrypted hello", &tls.Config{
			ServerName: "secret.example.org", MinVersion: tls.VersionTLS13,
			EncryptedClientHelloConfigList: echConfigs(t, "public.example.org"),
		}, "public.example.org"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := helloOf(t, tt.config)
			got := stepwise(t, in)
			t.Logf("%d bytes", len(in))
			if got.ServerName != tt.want {
				t.Errorf("server name %q, want %q", got.ServerName, tt.want)
			}
			if !slices.Equal(got.Protocols(), tt.config.NextProtos) {
				t.Errorf("protocols %q, want %q", got.Protocols(), tt.config.NextProtos)
			}
			for _, size := range []int{1, 2, 3, 4, 5, 37, 100, len(in) - recordHeader - 1} {
				split := records(size, string(in[recordHeader:]))
				if len(split) > MaxLen {
					continue
				}
				if again := stepwise(t, split); again != got {
					t.Errorf("in records of %d bytes: %+v, want %+v", size, again, got)
				}
			}
		})
	}
}

// stepwise parses in byte by byte, then with more behind it, and fails unless all answers agree.
func stepwise(t *testing.T, in []byte) Hello {
	t.Helper()
	for n := range in {
		h, need, err := Parse(in[:n])
		if err != nil || need <= n || need > len(in) || h != (Hello{}) {
			t.Fatalf("the first %d of %d bytes: %+v, need %d, %v", n, len(in), h, need, err)
		}
	}
	h, need, err := Parse(in)
	if err != nil || need != 0 {
		t.Fatalf("Parse(%q): need %d, %v", in, need, err)
	}
	if again, need, err := Parse(append(bytes.Clone(in), "early data, or another record"...)); again != h || need != 0 || err != nil {
		t.Errorf("with more behind it: %+v, need %d, %v; want %+v", again, need, err, h)
	}
	return h
}

func TestUnusualHellos(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"no extensions at all", records(MaxLen, message(1, anyStart)), ""},
		{"no extension in the list", hello(), ""},
		{"only the name", hello(sni("a.example.org")), "a.example.org"},
		{"GREASE around it", hello(extension(0x0a0a, ""), sni("a.b"), extension(0xfafa, "\x00")), "a.b"},
		{"encrypted hello of a GREASE client", hello(extension(0xfe0d, "\x00\x00"), sni("a.b")), "a.b"},
		{"name of an unknown type", hello(extension(0, vector16("\x07"+vector16("what")+"\x00"+vector16("a.b")))), "a.b"},
		{"only a name of an unknown type", hello(extension(0, vector16("\x07"+vector16("what")))), ""},
		{"dot at the end", hello(sni("a.b.")), "a.b"},
		{"an address, which is against the rules and harmless", hello(sni("10.0.0.1")), "10.0.0.1"},
		{"pre-shared key at the end", hello(sni("a.b"), extension(extPreSharedKey, "x")), "a.b"},
		{"longest message", hello(sni("a.b"), extension(21, strings.Repeat("\x00", MaxLen-72-len(sni("a.b"))))), "a.b"},
		{"version of the record from the future", replace(hello(sni("a.b")), 2, 9), "a.b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stepwise(t, tt.in).ServerName; got != tt.want {
				t.Errorf("server name %q, want %q", got, tt.want)
			}
		})
	}
}

func replace(b []byte, at int, with byte) []byte {
	b[at] = with
	return b
}

func TestMistakes(t *testing.T) {
	start := func(s string) []byte { return records(MaxLen, message(1, s)) }
	whole := hello(sni("a.b"))
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"HTTP", []byte("G"), "does not begin with TLS"},
		{"SSH", []byte("SSH-2.0-x"), "does not begin with TLS"},
		{"alert", []byte{21, 3, 1}, "does not begin with TLS"},
		{"SSL 2", []byte{0x80, 0x2e, 1}, "does not begin with TLS"},
		{"version of the record", []byte{22, 2}, "does not begin with TLS"},
		{"another message", records(MaxLen, message(2, anyStart)), "first message is another one"},
		{"another message, as soon as it is seen", []byte{22, 3, 1, 0, 9, 14}, "first message is another one"},
		{"empty record", []byte{22, 3, 1, 0, 0}, "a record of it is empty"},
		{"empty record in between", append(records(1, string(whole[5:]))[:6:6], 22, 3, 1, 0, 0), "is empty"},
		{"alert in between", append(records(7, string(whole[5:]))[:12:12], 21), "something else comes before its end"},
		{"another version in between", append(records(7, string(whole[5:]))[:12:12], 22, 4), "something else"},
		{"record too long", []byte{22, 3, 1, 0x40, 0}, "within 16384 bytes"},
		{"message too long", []byte{22, 3, 1, 0x10, 0, 1, 0, 0x40, 0}, "within 16384 bytes"},
		{"message much too long", []byte{22, 3, 1, 0x10, 0, 1, 1, 0, 0}, "within 16384 bytes"},
		{"too many small records", records(1, message(1, strings.Repeat("x", 4000))), "within 16384 bytes"},
		{"another message in the record", records(MaxLen, message(1, anyStart)+message(1, anyStart)), "goes on after it"},
		{"a byte behind it in the record", records(MaxLen, message(1, anyStart)+"x"), "goes on after it"},
		{"empty message", start(""), "more than there is"},
		{"ends in the random", start(anyStart[:20]), "more than there is"},
		{"ends in the suites", start(anyStart[:37]), "more than there is"},
		{"version", start("\x02\x00" + anyStart[2:]), "none of TLS"},
		{"session ID too long", start("\x03\x03" + anyRandom + vector8(strings.Repeat("x", 33)) + oneSuite + noZip), "malformed"},
		{"odd suites", start("\x03\x03" + anyRandom + noSession + vector16("abc") + noZip), "malformed"},
		{"no suites", start("\x03\x03" + anyRandom + noSession + vector16("") + noZip), "malformed"},
		{"no compression method", start("\x03\x03" + anyRandom + noSession + oneSuite + "\x00"), "malformed"},
		{"extensions longer than the message", start(anyStart + "\x00\x04abc"), "more than there is"},
		{"extensions shorter than the message", start(anyStart + vector16(sni("a.b")) + "x"), "less than there is"},
		{"an extension ends too early", hello("\x00\x00\x00\x09x"), "more than there is"},
		{"half a length", hello("\x00\x00\x00"), "more than there is"},
		{"server name twice", hello(sni("a.b"), sni("c.d")), "extension 0 is there twice"},
		{"any extension twice", hello(extension(65535, ""), extension(65535, "")), "extension 65535 is there twice"},
		{"pre-shared key not last", hello(extension(extPreSharedKey, ""), sni("a.b")), "not the last"},
		{"empty server name extension", hello(extension(0, "")), "server name: a length says more"},
		{"empty list of names", hello(extension(0, "\x00\x00")), "server name: is an empty list"},
		{"two host names", hello(sni("a.b", "c.d")), "two host names"},
		{"the same host name twice", hello(sni("a.b", "a.b")), "two host names"},
		{"empty host name", hello(sni("")), "is empty"},
		{"NUL in the name", hello(sni("a.b\x00.c")), `contains '\x00'`},
		{"space in the name", hello(sni("a b")), `contains ' '`},
		{"name too long", hello(sni(strings.Repeat("a.", 128))), "longer than 253"},
		{"name longer than its list", hello(extension(0, "\x00\x05\x00\x00\x09ab")), "more than there is"},
		{"bytes behind the list", hello(extension(0, vector16("\x00"+vector16("a.b"))+"x")), "less than there is"},
		{"name without a length", hello(extension(0, vector16("\x00"))), "more than there is"},
		{"no protocols", hello(extension(extALPN, "\x00\x00")), "application protocols: is an empty list"},
		{"empty protocol", hello(extension(extALPN, vector16(vector8("")))), "application protocols: has an empty entry"},
		{"protocol longer than its list", hello(extension(extALPN, vector16("\x09h2"))), "application protocols: a length says more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, need, err := Parse(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Parse(%q) = %+v, need %d, %v, want an error with %q", tt.in, h, need, err, tt.want)
			}
			if errors.Is(err, ErrNotTLS) != strings.Contains(tt.want, "begin") {
				t.Errorf("%v is ErrNotTLS: %v", err, errors.Is(err, ErrNotTLS))
			}
		})
	}
}

func TestMemory(t *testing.T) {
	in := hello(sni("www.example.org"))
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(in) }); n > 2 {
		t.Errorf("Parse allocates %v times, want the name only", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(in[:len(in)-1]) }); n > 0 {
		t.Errorf("Parse of a part allocates %v times", n)
	}
}

// FuzzServerName: the answer does not depend on how the bytes arrive, nothing is changed, and a server of Go
// that accepts the bytes sees the same name.
func FuzzServerName(f *testing.F) {
	for _, config := range []*tls.Config{
		{ServerName: "www.example.org"},
		{ServerName: "a.b", MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}},
		{InsecureSkipVerify: true},
		{ServerName: "secret.example.org", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigs(f, "public.example.org")},
	} {
		in := helloOf(f, config)
		f.Add(in)
		f.Add(records(50, string(in[recordHeader:])))
	}
	f.Add(hello(extension(0x0a0a, ""), sni("a.b"), extension(extPreSharedKey, "x")))
	f.Add(hello(sni("a.b", "c.d")))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		kept := bytes.Clone(in)
		h, need, err := Parse(in)
		if !bytes.Equal(in, kept) {
			t.Fatal("changed its input")
		}
		checkIncremental(t, in, h, need, err)
		if err != nil || need > 0 {
			return
		}
		if strings.Join(h.Protocols(), "") == "" && h.protocols != "" {
			t.Fatalf("protocols %q are lost", h.protocols)
		}
		if seen, ok := seenByServer(in); ok {
			if name, err := hostname.Normalize(seen); seen != "" && (err != nil || name != h.ServerName) || seen == "" && h.ServerName != "" {
				t.Fatalf("server name %q, a server sees %q (%v)", h.ServerName, seen, err)
			}
		}
	})
}

// checkIncremental compares the answer for all of in with those for its beginnings.
func checkIncremental(t *testing.T, in []byte, h Hello, need int, err error) {
	t.Helper()
	asked := 0 // what the last answer needed
	for n := 0; n < len(in); n += 1 + n/64 {
		got, more, early := Parse(in[:n])
		switch {
		case early != nil:
			if err == nil {
				t.Fatalf("%d bytes: %v; all: %+v, need %d", n, early, h, need)
			}
			return
		case more == 0:
			if got != h || need != 0 || err != nil {
				t.Fatalf("%d bytes: %+v; all: %+v, need %d, %v", n, got, h, need, err)
			}
			return
		case more <= n || more < asked || more > MaxLen:
			t.Fatalf("%d bytes need %d, fewer of them %d", n, more, asked)
		}
		asked = more
	}
}

func BenchmarkParse(b *testing.B) {
	in := helloOf(b, &tls.Config{ServerName: "www.example.org", NextProtos: []string{"h2", "http/1.1"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}
