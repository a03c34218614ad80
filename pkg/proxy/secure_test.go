package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify writes a certificate for names and its key into dir, over what is there, and returns where.
func certify(t testing.TB, dir string, serial int64, names ...string) KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := KeyPair{filepath.Join(dir, names[0]+".pem"), filepath.Join(dir, names[0]+".key")}
	for path, block := range map[string]*pem.Block{pair.CertFile: {Type: "CERTIFICATE", Bytes: der}, pair.KeyFile: {Type: "PRIVATE KEY", Bytes: k}} {
		put(t, path, pem.EncodeToMemory(block))
	}
	return pair
}

// put writes a file in one step: nobody sees half of it.
func put(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".next", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

// secure is an HTTPS listener to a target.
func secure(t testing.TB, id, target string) Listener {
	t.Helper()
	l := web1(id, target)
	l.TLS = &TLS{Certs: []KeyPair{certify(t, t.TempDir(), 1, "shop.example")}}
	return l
}

// A dialect is a way to speak HTTP to the proxy.
type dialect struct {
	name  string
	tls   bool
	proto string
	set   func(*http.Protocols)
}

var dialects = []dialect{
	{"h1", false, "HTTP/1.1", func(p *http.Protocols) { p.SetHTTP1(true) }},
	{"h1 over TLS", true, "HTTP/1.1", func(p *http.Protocols) { p.SetHTTP1(true) }},
	{"h2", true, "HTTP/2.0", func(p *http.Protocols) { p.SetHTTP2(true) }},
	{"h2c", false, "HTTP/2.0", func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
}

// client speaks d to addr, whatever host it is asked for.
func (d dialect) client(t testing.TB, addr string) *http.Client {
	t.Helper()
	var protocols http.Protocols
	d.set(&protocols)
	tr := &http.Transport{
		Protocols: &protocols, MaxIdleConnsPerHost: 100, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	var dialer net.Dialer
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (d dialect) url(host, path string) string {
	if d.tls {
		return "https://" + host + path
	}
	return "http://" + host + path
}

func (d dialect) listener(t testing.TB, id, target string) Listener {
	t.Helper()
	if d.tls {
		return secure(t, id, target)
	}
	return web1(id, target)
}

// A reply is an answer with its content.
type reply struct {
	StatusCode    int
	Status, Proto string
	Header        http.Header
	text          string
}

// fetch returns the answer to a request for url with these headers, name and value by turns.
func fetch(t testing.TB, c *http.Client, url string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Status, res.Proto, res.Header, string(text)}
}

func TestDialects(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			id, addr := site(t, "A", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-Proto"), body)
			})
			apply(t, p, d.listener(t, id, addr))
			c := d.client(t, addrOf(t, p))
			scheme := "http"
			if d.tls {
				scheme = "https"
			}
			for range 3 {
				res := fetch(t, c, d.url("shop.example", "/a%2Fb?c=d;e"))
				if want := "GET shop.example /a%2Fb?c=d;e " + scheme + " "; res.text != want || res.Proto != d.proto || res.Header.Get("Served-By") != "A" {
					t.Errorf("got %q over %s, want %q over %s", res.text, res.Proto, want, d.proto)
				}
			}
			wantOpen(t, p, "A", 0)
		})
	}
}

// TestTargetFollowsWithoutFiles: a listener whose new files do not work keeps the old ones, but not a target
// that may be gone.
func TestTargetFollowsWithoutFiles(t *testing.T) {
	t.Parallel()
	d := dialects[1]
	missing := filepath.Join(t.TempDir(), "missing")
	tests := map[string]func(*Listener){
		missing + ".pem": func(l *Listener) {
			l.TLS = &TLS{Certs: []KeyPair{{CertFile: missing + ".pem", KeyFile: missing + ".key"}}}
		},
		missing: func(l *Listener) { l.Pages = missing },
	}
	for file, change := range tests {
		t.Run(filepath.Ext(file), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			id, addr := site(t, "A", nil)
			l := secure(t, id, addr)
			apply(t, p, l)
			at := addrOf(t, p)
			good := l
			l.TargetID, l.Target = site(t, "B", nil)
			change(&l)
			for range 2 {
				if err := p.Apply("test", []Listener{l}); err == nil || !strings.Contains(err.Error(), file) {
					t.Fatalf("Apply = %v, want an error about %s", err, file)
				}
				if got := fetch(t, d.client(t, at), d.url("shop.example", "/")).Header.Get("Served-By"); got != "B" {
					t.Errorf("target %q answered, want B", got)
				}
			}
			apply(t, p, good)
			if got := fetch(t, d.client(t, at), d.url("shop.example", "/")).Header.Get("Served-By"); got != "A" {
				t.Errorf("target %q answered, want A", got)
			}
		})
	}
}
