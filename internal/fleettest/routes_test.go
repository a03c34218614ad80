package fleettest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A route that setconfig stores is in effect on every host, no container is replaced, and nobody is refused
// while it changes.
func TestChangedRouteTakesEffectEverywhereWithoutNewContainers(t *testing.T) {
	f := fleettest.New(t)
	hosts := []*fleettest.Daemon{f.Daemon(t, "h1"), f.Daemon(t, "h2")}
	for _, d := range hosts {
		d.Start(t)
	}
	site, shop := f.Web(), f.Web()
	site.Name, site.Repo = "site", f.Repo("site")
	shop.Name, shop.Repo = "shop", f.Repo("shop")
	shop.Ports = []component.Port{site.Ports[0]}
	shop.Ports[0].Match = component.Match{Path: "/old"}
	f.Configure(t, site, shop)
	f.Release(t, "site", version("site"))
	f.Release(t, "shop", version("shop"))
	f.Update(t, "site", "shop")
	before := len(f.Containers(t, "", "shop")) + len(f.Containers(t, "", "site"))
	for _, d := range hosts {
		answeredBy(t, d.URL(f.Port, "/old"), "shop")
		answeredBy(t, d.URL(f.Port, "/new"), "site")
	}
	load := fleettest.StartLoad(t, fleettest.Mixed(hosts[0].URL(f.Port, "/")))

	shop.Ports[0].Match = component.Match{Path: "/new"}
	f.Configure(t, site, shop)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, d := range hosts {
		fleettest.Await(t, fleettest.Soon, "the new route on "+d.Host, func() error {
			body, err := fleettest.Get(t.Context(), client, d.URL(f.Port, "/new"))
			if err == nil && !strings.HasPrefix(body, "shop ") {
				err = fmt.Errorf("answered by %q", body)
			}
			return err
		})
		answeredBy(t, d.URL(f.Port, "/old"), "site")
	}

	shop.Maintenance = true
	f.Configure(t, site, shop)
	for _, d := range hosts {
		fleettest.Await(t, fleettest.Soon, "maintenance on "+d.Host, func() error {
			_, err := fleettest.Get(t.Context(), client, d.URL(f.Port, "/new"))
			if err == nil || !strings.Contains(err.Error(), "503") {
				return fmt.Errorf("answered with %w, want 503", err)
			}
			return nil
		})
		answeredBy(t, d.URL(f.Port, "/old"), "site")
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive)
	if after := len(f.Containers(t, "", "shop")) + len(f.Containers(t, "", "site")); after != before {
		t.Errorf("%d containers, before %d: a route replaced one", after, before)
	}
}

// certificate writes a key pair for a host, and returns who trusts it.
func certificate(t *testing.T, host, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{keyFile: {Type: "PRIVATE KEY", Bytes: private}, certFile: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// A certificate that is not on the host is told by status and list; the other port goes on, and the one
// that lacks it opens once it is there.
func TestMissingCertificateIsToldAndTheRestGoesOn(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var spec component.Spec
	f, d := serving(t, func(s *component.Spec) { spec = *s })
	old := onlyServing(t, f, "h1", "web", 0)
	secure := spec.Ports[0]
	secure.External = f.Port + 2
	secure.TLS.Certs = []component.KeyPair{{Cert: cert, Key: key}}
	pool := certificate(t, "shop.example", cert, key)
	spec.Ports = append([]component.Port{secure}, spec.Ports...)
	f.Configure(t, spec)
	f.Update(t, "web") // another external port: a new container
	fleettest.Await(t, fleettest.Soon, "another container serves", func() error {
		if cs := f.Running(t, "h1", "web"); len(cs) != 1 || cs[0].ID == old.ID {
			return fmt.Errorf("%d containers run", len(cs))
		}
		return nil
	})
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"},
	}}
	url := strings.Replace(d.URL(f.Port+2, "/"), "http:", "https:", 1)
	if body, err := fleettest.Get(t.Context(), client, url); err != nil || !strings.HasPrefix(body, "v1 ") {
		t.Errorf("by TLS: %q, %v", body, err)
	}

	if err := os.Rename(cert, cert+".away"); err != nil {
		t.Fatal(err)
	}
	d.Stop(t)
	d.Start(t)
	answeredBy(t, d.URL(f.Port, "/"), "v1")
	fleettest.Await(t, fleettest.Soon, "status tells the certificate", func() error {
		if out := f.Must(t, "status", f.Project).Out; !strings.Contains(out, "ports on h1: ") || !strings.Contains(out, cert) {
			return errors.New(out)
		}
		return nil
	})
	if out := f.Must(t, "list", f.Project, "-o", "json").Out; !strings.Contains(out, cert) {
		t.Errorf("list does not tell the certificate: %s", out)
	}
	if err := os.Rename(cert+".away", cert); err != nil {
		t.Fatal(err)
	}
	f.Configure(t, spec) // whatever makes the host look again; it does so by itself twice a minute
	fleettest.Await(t, 45*time.Second, "TLS works again", func() error {
		_, err := fleettest.Get(t.Context(), client, url)
		return err
	})
	fleettest.Await(t, fleettest.Soon, "status has nothing to tell", func() error {
		if out := f.Must(t, "status", f.Project).Out; strings.Contains(out, "ports on h1: ") {
			return errors.New(out)
		}
		return nil
	})
}
