package proxyproto

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// unhex reads bytes written as in the specification, with spaces between them as one likes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const signature = "0D0A0D0A000D0A515549540A "

func TestParse(t *testing.T) {
	const v4, v6 = "192.168.0.1:56324 192.168.0.11:443", "[2001:db8::1]:56324 [2001:db8::11]:443"
	ffff := "ffff" + strings.Repeat(":ffff", 7)
	tests := []struct {
		name  string
		in    string // text, or bytes in hexadecimal after x
		addrs string // "" for none
	}{
		{"the specification's example", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", v4},
		{"longest TCP4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535 255.255.255.255:65535"},
		{"longest TCP6", "PROXY TCP6 " + ffff + " " + ffff + " 65535 65535\r\n", "[" + ffff + "]:65535 [" + ffff + "]:65535"},
		{"TCP6, short and upper case", "PROXY TCP6 2001:DB8::1 2001:0db8:0:0::11 56324 443\r\n", v6},
		{"TCP6 of an IPv4 client", "PROXY TCP6 ::ffff:c0a8:1 ::1 1 2\r\n", "192.168.0.1:1 [::1]:2"},
		{"port zero", "PROXY TCP4 0.0.0.0 1.2.3.4 0 0\r\n", "0.0.0.0:0 1.2.3.4:0"},
		{"unknown, short", "PROXY UNKNOWN\r\n", ""},
		{"unknown, longest", "PROXY UNKNOWN " + ffff + " " + ffff + " 65535 65535\r\n", ""},
		{"unknown, nonsense", "PROXY UNKNOWN  \x00\xff?\r\n", ""},
		{"local", "x" + signature + "20 00 0000", ""},
		{"local with a block that is ignored", "x" + signature + "20 FF 0003 FFFFFF", ""},
		{"unspecified with a block", "x" + signature + "21 00 0002 0102", ""},
		{"family without protocol", "x" + signature + "21 10 0000", ""},
		{"protocol without family", "x" + signature + "21 01 0000", ""},
		{"TCP over IPv4", "x" + signature + "21 11 000C C0A80001 C0A8000B DC04 01BB", v4},
		{"UDP over IPv4", "x" + signature + "21 12 000C C0A80001 C0A8000B DC04 01BB", v4},
		{"TCP over IPv6", "x" + signature + "21 21 0024 20010DB8000000000000000000000001 20010DB8000000000000000000000011 DC04 01BB", v6},
		{"IPv4 written as IPv6", "x" + signature + "21 21 0024 00000000000000000000FFFFC0A80001 00000000000000000000FFFFC0A8000B DC04 01BB", v4},
		{"unix", "x" + signature + "21 31 00D8 " + strings.Repeat("2F", 216), ""},
		{"TLVs", "x" + signature + "21 11 0018 C0A80001 C0A8000B DC04 01BB 04 0000 01 0003 616263 E0 0000", v4},
		{"checksum", "x" + signature + "21 11 0013 C0A80001 C0A8000B DC04 01BB 03 0004 " + sum4, v4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			if s, ok := strings.CutPrefix(tt.in, "x"); ok {
				in = unhex(t, s)
			}
			got := stepwise(t, in, "data behind it")
			if got.Len != len(in) {
				t.Errorf("length %d, want %d", got.Len, len(in))
			}
			if want := wantVersion(in); got.Version != want {
				t.Errorf("version %d, want %d", got.Version, want)
			}
			addrs := got.Source.String() + " " + got.Destination.String()
			if !got.Source.IsValid() && !got.Destination.IsValid() {
				addrs = ""
			}
			if addrs != tt.addrs {
				t.Errorf("addresses %q, want %q", addrs, tt.addrs)
			}
		})
	}
}

// sum4 is CRC32c over the header "checksum" above with zeros in its place, computed with another
// implementation (bit by bit, polynomial 0x82F63B78).
const sum4 = "1C1AE9C6"

func wantVersion(in []byte) int {
	if in[0] == 'P' {
		return V1
	}
	return V2
}

// stepwise parses in byte by byte, then with more behind it, and fails unless each answer agrees.
func stepwise(t *testing.T, in []byte, more string) Header {
	t.Helper()
	for n := range in {
		h, need, err := Parse(in[:n])
		if err != nil || need <= n || need > len(in) || h != (Header{}) {
			t.Fatalf("the first %d of %d bytes: %+v, need %d, %v", n, len(in), h, need, err)
		}
	}
	h, need, err := Parse(in)
	if err != nil || need != 0 {
		t.Fatalf("Parse(%q) needs %d, %v", in, need, err)
	}
	if again, need, err := Parse(append(bytes.Clone(in), more...)); again != h || need != 0 || err != nil {
		t.Errorf("with more behind it: %+v, need %d, %v; want %+v", again, need, err, h)
	}
	return h
}

func TestMistakes(t *testing.T) {
	const v4 = "C0A80001 C0A8000B DC04 01BB "
	tests := []struct{ name, in, want string }{
		{"HTTP", "GET / HTTP/1.1\r\n", `begins with "GET / HTTP/1.1\r\n"`},
		{"another word", "POST / HTTP/1.1\r\n", `begins with "POST`},
		{"TLS", "x16030100", "begins with"},
		{"lower case", "proxy TCP4 ", "begins with"},
		{"tab", "PROXY\tTCP4", "begins with"},
		{"family of the future", "PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", `family "TCP5"`},
		{"UDP4", "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", `family "UDP4"`},
		{"no family", "PROXY \r\n", `family ""`},
		{"two spaces", "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", `family ""`},
		{"two spaces later", "PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n", "five words"},
		{"space at the end", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "five words"},
		{"a word is missing", "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "five words"},
		{"only the family", "PROXY TCP4\r\n", "five words"},
		{"unknown and more in one word", "PROXY UNKNOWNS\r\n", `family "UNKNOWNS"`},
		{"zeros in an address", "PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", `source: "01.1.1.1" is not an address of TCP4`},
		{"three numbers", "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", `source: "1.1.1"`},
		{"IPv6 as TCP4", "PROXY TCP4 1.1.1.1 ::1 1 1\r\n", `destination: "::1" is not an address of TCP4`},
		{"IPv4 as TCP6", "PROXY TCP6 1.1.1.1 ::1 1 1\r\n", `source: "1.1.1.1" is not an address of TCP6`},
		{"zone", "PROXY TCP6 fe80::1%1 ::1 1 1\r\n", `source: "fe80::1%1"`},
		{"a name", "PROXY TCP4 localhost 1.1.1.1 1 1\r\n", `source: "localhost"`},
		{"port too large", "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", `source: "65536" is not a port`},
		{"port with a zero", "PROXY TCP4 1.1.1.1 1.1.1.1 1 080\r\n", `destination: "080" is not a port`},
		{"port with a sign", "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", `source: "+1" is not a port`},
		{"no port", "PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", `source: "" is not a port`},
		{"LF alone", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "LF without CR"},
		{"CR alone", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx", "CR without LF"},
		{"LF in an unknown", "PROXY UNKNOWN \n\r\n", "LF without CR"},
		{"line of 108 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "within 107 bytes"},
		{"no end", "PROXY UNKNOWN " + strings.Repeat("x", 93), "within 107 bytes"},
		{"signature that goes wrong", "x0D0A0D0A000D0A515549540D", "begins with"},
		{"version 1 in binary", "x" + signature + "11", "version 1 is not 2"},
		{"version 3 in binary", "x" + signature + "31 11 000C" + v4, "version 3 is not 2"},
		{"command of the future", "x" + signature + "22", "command 2"},
		{"family that does not exist", "x" + signature + "21 41 000C" + v4, "family 4"},
		{"protocol that does not exist", "x" + signature + "21 13 000C" + v4, "protocol 3"},
		{"too short for IPv4", "x" + signature + "21 11 000B", "11 bytes are too few for the addresses of family 1"},
		{"too short for IPv6", "x" + signature + "21 21 0023", "35 bytes are too few"},
		{"too short for unix", "x" + signature + "21 31 00D7", "215 bytes are too few"},
		{"too long", "x" + signature + "21 11 3FF1", "16385 bytes, at most 16384"},
		{"too long for a local one", "x" + signature + "20 00 FFFF", "65551 bytes"},
		{"TLV cut off", "x" + signature + "21 11 000E" + v4 + "04 00", "2 bytes at its end"},
		{"TLV longer than what is left", "x" + signature + "21 11 0010" + v4 + "04 0002 00", "TLV of type 0x4 has 2 bytes, 1 are left"},
		{"checksum wrong", "x" + signature + "21 11 0013" + v4 + "03 0004 00000000", "checksum is wrong"},
		{"checksum too short", "x" + signature + "21 11 0011" + v4 + "03 0002 0000", "4 bytes"},
		{"two checksums", "x" + signature + "21 11 001A" + v4 + "03 0004 00000000 03 0004 00000000", "two checksums"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			if s, ok := strings.CutPrefix(tt.in, "x"); ok {
				in = unhex(t, s)
			}
			h, need, err := Parse(in)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "read PROXY header: ") {
				t.Errorf("Parse(%q) = %+v, need %d, %v, want an error with %q", in, h, need, err, tt.want)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	const none = "invalid AddrPort"
	tests := []struct{ name, source, destination, want1, want2 string }{
		{
			"IPv4", "192.168.0.1:56324", "192.168.0.11:443",
			"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
			signature + "21 11 000C C0A80001 C0A8000B DC04 01BB",
		},
		{
			"IPv6 with a zone", "[fe80::1%eth0]:56324", "[fe80::2]:443",
			"PROXY TCP6 fe80::1 fe80::2 56324 443\r\n",
			signature + "21 21 0024 FE800000000000000000000000000001 FE800000000000000000000000000002 DC04 01BB",
		},
		{
			"IPv4 on an IPv6 socket", "[::ffff:192.168.0.1]:56324", "[::ffff:192.168.0.11]:443",
			"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
			signature + "21 11 000C C0A80001 C0A8000B DC04 01BB",
		},
		{
			"one of each", "192.168.0.1:1", "[::1]:2",
			"PROXY TCP6 ::ffff:c0a8:1 ::1 1 2\r\n",
			signature + "21 21 0024 00000000000000000000FFFFC0A80001 00000000000000000000000000000001 0001 0002",
		},
		{"nothing known", none, none, "PROXY UNKNOWN\r\n", signature + "20 00 0000"},
		{"half known", "192.168.0.1:1", none, "PROXY UNKNOWN\r\n", signature + "20 00 0000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			read := func(s string) netip.AddrPort {
				if s == none {
					return netip.AddrPort{}
				}
				return netip.MustParseAddrPort(s)
			}
			for version, want := range map[int][]byte{V1: []byte(tt.want1), V2: unhex(t, tt.want2)} {
				got, err := Append([]byte("before"), version, read(tt.source), read(tt.destination))
				if err != nil || string(got) != "before"+string(want) {
					t.Errorf("version %d: %q, %v, want %q", version, got, err, want)
				}
			}
		})
	}
	if _, err := Append(nil, 3, netip.AddrPort{}, netip.AddrPort{}); err == nil {
		t.Error("version 3 exists")
	}
}

func TestNoMemoryForBinary(t *testing.T) {
	in := unhex(t, signature+"21 11 000F C0A80001 C0A8000B DC04 01BB 04 0000")
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(in) }); n > 0 {
		t.Errorf("Parse allocates %v times", n)
	}
}

// FuzzParse: an answer does not depend on how the bytes arrive or on what is behind the header, nothing
// is changed, and what is accepted can be written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET /", "PROXY TCP6 ::1 ::ffff:1.2.3.4 1 2\r\n", "PROXY UNKNOWN x\r\n", "GET / HTTP/1.1",
	} {
		f.Add([]byte(s))
	}
	for _, s := range []string{
		"20 00 0000", "21 11 0013 C0A80001 C0A8000B DC04 01BB 03 0004 " + sum4, "21 11 0010 C0A80001 C0A8000B DC04 01BB 04 0001 00",
		"21 21 0024 20010DB8000000000000000000000001 20010DB8000000000000000000000011 DC04 01BB", "21 00 0002 0102",
	} {
		f.Add(unhex(f, signature+s))
	}
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
		if h.Len <= 0 || h.Len > len(in) || h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("%+v of %d bytes", h, len(in))
		}
		for _, version := range []int{V1, V2} {
			b, err := Append(nil, version, h.Source, h.Destination)
			if err != nil {
				t.Fatal(err)
			}
			again, need, err := Parse(b)
			want := Header{Version: version, Source: h.Source, Destination: h.Destination, Len: len(b)}
			if again != want || need != 0 || err != nil {
				t.Fatalf("version %d of %+v is read as %+v, need %d, %v", version, h, again, need, err)
			}
		}
	})
}

// checkIncremental compares the answer for all of in with those for its beginnings.
func checkIncremental(t *testing.T, in []byte, h Header, need int, err error) {
	t.Helper()
	asked := 0 // what the last answer needed
	for n := range min(len(in), 2*maxLine) {
		got, more, early := Parse(in[:n])
		switch {
		case early != nil:
			if err == nil {
				t.Fatalf("%d bytes: %v; all: %+v, need %d", n, early, h, need)
			}
			return
		case more == 0:
			if got != h || need != 0 || err != nil || got.Len > n {
				t.Fatalf("%d bytes: %+v; all: %+v, need %d, %v", n, got, h, need, err)
			}
			return
		case more <= n || more < asked:
			t.Fatalf("%d bytes need %d, fewer of them %d", n, more, asked)
		}
		asked = more
	}
	if err == nil && need == 0 && len(in) < 2*maxLine && h.Len < len(in) {
		t.Fatalf("all: %+v; without the last byte it needed %d", h, asked)
	}
}
