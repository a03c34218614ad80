package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// made is what a test certificate is made from.
type made struct {
	serial  int64
	names   []string
	expires time.Duration // from now; 0: a year
	rsa     bool
}

func (m made) pem(t testing.TB) (cert, key []byte) {
	t.Helper()
	var signer crypto.Signer
	var err error
	if m.rsa {
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m.expires == 0 {
		m.expires = 365 * 24 * time.Hour
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: m.names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(m.expires),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})
}

func put(t testing.TB, path string, text []byte) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// at writes a pair into dir and returns where.
func at(t testing.TB, dir, name string, m made) Pair {
	t.Helper()
	p := Pair{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	cert, key := m.pem(t)
	put(t, p.Cert, cert)
	put(t, p.Key, key)
	return p
}

func use(t testing.TB, s *Store, pairs ...Pair) *Choice {
	t.Helper()
	c, err := s.Use(pairs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Release)
	return c
}

// handshake is the serial number of the certificate that a client which asks for name sees.
func handshake(t testing.TB, config *tls.Config, client *tls.Config) int64 {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = tls.Server(b, config).HandshakeContext(t.Context()) })
	client.InsecureSkipVerify = true // the name is not always the certificate's
	c := tls.Client(a, client)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Errorf("handshake for %q: %v", client.ServerName, err)
		return 0
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestChooseByName(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(slog.New(slog.DiscardHandler))
	c := use(t, s,
		at(t, dir, "first", made{serial: 1, names: []string{"a.example"}}),
		at(t, dir, "wild", made{serial: 2, names: []string{"*.b.example", "b.example"}}),
		at(t, dir, "exact", made{serial: 3, names: []string{"x.b.example"}}),
		at(t, dir, "old", made{serial: 4, names: []string{"c.example"}, rsa: true}),
		at(t, dir, "new", made{serial: 5, names: []string{"C.example"}}),
	)
	config := Config(c)
	tests := []struct {
		name string
		want int64
	}{
		{"a.example", 1},
		{"A.Example", 1},
		{"b.example", 2},
		{"y.b.example", 2},
		{"x.b.example", 3},
		{"z.y.b.example", 1}, // a wildcard is one label
		{"c.example", 4},
		{"unknown.example", 1},
		{"", 1},
	}
	for _, tt := range tests {
		if got := handshake(t, config, &tls.Config{ServerName: tt.name}); got != tt.want {
			t.Errorf("certificate for %q = %d, want %d", tt.name, got, tt.want)
		}
	}
	ecdsaOnly := &tls.Config{
		ServerName: "c.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	if got := handshake(t, config, ecdsaOnly); got != 5 {
		t.Errorf("certificate for a client that knows ECDSA only = %d, want 5", got)
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	c := use(t, NewStore(slog.New(slog.DiscardHandler)), at(t, dir, "a", made{serial: 1, names: []string{"a"}}))
	a, b := net.Pipe()
	defer a.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	var err error
	wg.Go(func() {
		defer b.Close()
		err = tls.Server(b, Config(c)).HandshakeContext(t.Context())
	})
	old := tls.Client(a, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, ServerName: "a", InsecureSkipVerify: true})
	if old.HandshakeContext(t.Context()) == nil {
		t.Error("TLS 1.1 is spoken")
	}
	wg.Wait()
	if err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("handshake with TLS 1.1: %v, want a word about versions", err)
	}
}

func TestUseRefuses(t *testing.T) {
	dir := t.TempDir()
	good := at(t, dir, "good", made{serial: 1, names: []string{"a"}})
	other := at(t, dir, "other", made{serial: 2, names: []string{"a"}})
	empty := filepath.Join(dir, "empty")
	put(t, empty, nil)
	tests := []struct {
		name  string
		pairs []Pair
		want  string
	}{
		{"none", nil, "no certificates"},
		{"no certificate file", []Pair{good, {filepath.Join(dir, "gone"), good.Key}}, "gone: no such file"},
		{"no key file", []Pair{good, {good.Cert, filepath.Join(dir, "gone")}}, "gone: no such file"},
		{"not PEM", []Pair{good, {empty, good.Key}}, "failed to find any PEM data"},
		{"another pair's key", []Pair{good, {good.Cert, other.Key}}, "does not match"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore(slog.New(slog.DiscardHandler))
			if _, err := s.Use(tt.pairs); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("use: %v, want %q", err, tt.want)
			}
			if n := len(s.pairs); n != 0 {
				t.Errorf("%d pairs are left in the store", n)
			}
		})
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	s := NewStore(slog.New(slog.NewTextHandler(&log, nil)))
	p := at(t, dir, "a", made{serial: 1, names: []string{"a.example"}})
	c, other := use(t, s, p), use(t, s, p)
	got := func() int64 {
		x, err := c.Certificate(&tls.ClientHelloInfo{ServerName: "a.example"})
		if err != nil {
			t.Fatal(err)
		}
		y, _ := other.Certificate(&tls.ClientHelloInfo{ServerName: "a.example"})
		if x != y {
			t.Error("two users of one pair see different certificates")
		}
		return x.Leaf.SerialNumber.Int64()
	}
	want := func(what string, serial int64, logged string) {
		t.Helper()
		for range patience + 2 {
			s.Poll(time.Now())
		}
		if n := got(); n != serial {
			t.Errorf("%s: certificate %d, want %d", what, n, serial)
		}
		if n := strings.Count(log.String(), "level="); logged == "" && n != 0 || logged != "" && (n != 1 || !strings.Contains(log.String(), logged)) {
			t.Errorf("%s: logged %q, want one line with %q", what, log.String(), logged)
		}
		log.Reset()
	}
	want("no change", 1, "")

	cert, key := made{serial: 2, names: []string{"a.example"}}.pem(t)
	put(t, p.Cert, cert)
	s.Poll(time.Now())
	if log.Len() > 0 || got() != 1 {
		t.Errorf("one of two files is there: certificate %d, logged %q", got(), &log)
	}
	put(t, p.Key, key)
	want("both files are there", 2, "certificate reloaded")

	put(t, p.Cert, []byte("nonsense"))
	want("broken", 2, "the old one stays")
	want("still broken", 2, "")
	if err := os.Remove(p.Cert); err != nil {
		t.Fatal(err)
	}
	want("gone, another reason", 2, "no such file")
	at(t, dir, "a", made{serial: 3, names: []string{"a.example"}})
	want("healed", 3, "certificate reloaded")
}

func TestExpiryIsSaidOnceADay(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	s := NewStore(slog.New(slog.NewTextHandler(&log, nil)))
	p := at(t, dir, "a", made{serial: 1, names: []string{"a.example"}, expires: 15 * 24 * time.Hour})
	use(t, s, p)
	var got []string
	now := time.Now()
	for hour := range 16*24 + 12 {
		s.Poll(now.Add(time.Duration(hour) * time.Hour))
		if log.Len() > 0 {
			got = append(got, fmt.Sprint(hour/24, strings.Contains(log.String(), "has expired")))
		}
		log.Reset()
	}
	want := []string{"1 false", "2 false", "3 false", "4 false", "5 false", "6 false", "7 false", "8 false", "9 false", "10 false", "11 false", "12 false", "13 false", "14 false", "15 true", "16 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("days on which it was said, -want +got:\n%s", diff)
	}
	at(t, dir, "a", made{serial: 2, names: []string{"a.example"}, expires: 60 * 24 * time.Hour})
	s.Poll(now.Add(17 * 24 * time.Hour))
	if strings.Contains(log.String(), "expire") && !strings.Contains(log.String(), "reloaded") {
		t.Errorf("said of the new one: %s", &log)
	}
}

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(slog.New(slog.DiscardHandler))
	p := at(t, dir, "a", made{serial: 1, names: []string{"a.example"}})
	one, err := s.Use([]Pair{p, p})
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Use([]Pair{p})
	if err != nil {
		t.Fatal(err)
	}
	one.Release()
	one.Release()
	if len(s.pairs) != 1 {
		t.Error("the pair is gone while somebody uses it")
	}
	two.Release()
	if len(s.pairs) != 0 {
		t.Error("the pair is kept though nobody uses it")
	}
	if cert, err := one.Certificate(&tls.ClientHelloInfo{}); err != nil || cert == nil {
		t.Errorf("certificate after release = %v, %v", cert, err)
	}
}

// TestReloadWhileChosen is for the race detector, and for a client that must never see half a pair.
func TestReloadWhileChosen(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(slog.New(slog.DiscardHandler))
	p := at(t, dir, "a", made{serial: 1, names: []string{"a.example"}})
	c := use(t, s, p)
	config := Config(c)
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(done)
		for i := range 10 {
			at(t, dir, "a", made{serial: int64(i + 2), names: []string{"a.example"}})
			s.Poll(time.Now())
		}
	})
	var last int64
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		n := handshake(t, config, &tls.Config{ServerName: "a.example"})
		if n < last {
			t.Errorf("certificate %d after %d", n, last)
		}
		last = n
	}
	if last != 11 {
		t.Errorf("last certificate %d, want 11", last)
	}
}

// FuzzChoose: whatever a client names, it gets a certificate, and one for that name if there is one.
func FuzzChoose(f *testing.F) {
	dir := f.TempDir()
	s := NewStore(slog.New(slog.DiscardHandler))
	c := use(f, s, at(f, dir, "a", made{serial: 1, names: []string{"a.example"}}), at(f, dir, "b", made{serial: 2, names: []string{"*.b.example"}}))
	for _, name := range []string{"", ".", "..", "a.example", "a.example.", "x.b.example", "*.b.example", ".b.example", "\x00.b.example", "A.EXAMPLE"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		cert, err := c.Certificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil || cert == nil {
			t.Fatalf("certificate for %q = %v, %v", name, cert, err)
		}
		for serial := int64(1); serial <= 2; serial++ {
			leaf := c.entries[serial-1].loaded.Load().Leaf
			if leaf.VerifyHostname(name) == nil && cert.Leaf != leaf {
				t.Errorf("certificate for %q is %d, though %d is for it", name, cert.Leaf.SerialNumber, serial)
			}
		}
	})
}
