package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
)

func glob(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// certificates writes ca.pem, cert.pem and key.pem, of one certificate that does for all.
func certificates(t *testing.T) (dir string, conf *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	dir = t.TempDir()
	for name, b := range map[string][]byte{"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return dir, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
}

// TestTLS talks to the real Engine through a TLS listener, hijacked connections included.
func TestTLS(t *testing.T) {
	l := newLine(t) // skips when there is no unix socket
	dir, conf := certificates(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		l.down()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", l.path)
			if err != nil {
				c.Close()
				return
			}
			for _, pair := range [][2]net.Conn{{up, c}, {c, up}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
					pair[1].Close()
				})
			}
		}
	})
	project := dockertest.Project(t)
	id := start(t, newEngine(t, project, nil), appRequest(t, nil))
	set := map[string]string{"DOCKER_HOST": "tcp://" + ln.Addr().String(), "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": dir}
	e := newEngine(t, project, set)
	find(t, e, id)
	if code, out, err := e.Exec(t.Context(), id, []string{"/app", "print", "x"}); err != nil || code != 0 || out != `["x"]` {
		t.Errorf("Exec = %d, %q, %v", code, out, err)
	}
	e.Close()

	set["DOCKER_CERT_PATH"], _ = certificates(t) // of an authority that the Engine does not know
	wrong := newEngine(t, project, set)
	if _, err := wrong.Containers(t.Context()); err == nil {
		t.Error("an Engine that shows an unknown certificate was believed")
	}
}
