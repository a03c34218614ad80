// Command dockerping ends with 0 when a Docker Engine answers at DOCKER_HOST (default: the engine's
// own socket), else with 1 and the reason on stderr. With -wait it keeps trying that long.
//
// It exists for scripts/ensure-docker: tests talk to the engine by its socket, so neither they nor
// the check need the docker command.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

const (
	defaultHost = "unix:///var/run/docker.sock"
	tryTimeout  = 5 * time.Second        // of one attempt
	pause       = 200 * time.Millisecond // between attempts
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) int {
	flags := flag.NewFlagSet("dockerping", flag.ContinueOnError)
	flags.SetOutput(stderr)
	wait := flags.Duration("wait", 0, "how long to keep trying")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	e, err := engineAt(getenv)
	if err != nil {
		fmt.Fprintf(stderr, "dockerping: %v\n", err)
		return 1
	}
	ctx, cancel := context.WithTimeout(ctx, *wait+tryTimeout)
	defer cancel()
	if err := e.pingFor(ctx, *wait); err != nil {
		fmt.Fprintf(stderr, "dockerping: %v\n", err)
		return 1
	}
	return 0
}

// engine is an address that a Docker Engine may answer at.
type engine struct {
	base   string // "http://host:port"
	client *http.Client
}

// engineAt reads DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH as the docker command does.
func engineAt(getenv func(string) string) (engine, error) {
	host := getenv("DOCKER_HOST")
	if host == "" {
		host = defaultHost
	}
	u, err := url.Parse(host)
	if err != nil {
		return engine{}, fmt.Errorf("read DOCKER_HOST: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	e := engine{client: &http.Client{Transport: transport}}
	switch u.Scheme {
	case "unix":
		e.base = "http://docker"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case "tcp", "http", "https":
		e.base = "http://" + u.Host
		if u.Scheme == "https" || getenv("DOCKER_TLS_VERIFY") != "" {
			e.base = "https://" + u.Host
			transport.TLSClientConfig, err = tlsConfig(getenv)
		}
	default:
		err = fmt.Errorf("read DOCKER_HOST %q: only unix:// and tcp:// addresses can be checked", host)
	}
	return e, err
}

// tlsConfig reads ca.pem, cert.pem and key.pem.
func tlsConfig(getenv func(string) string) (*tls.Config, error) {
	dir := getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), ".docker")
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the engine's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read the engine's authority %q: no certificate in it", filepath.Join(dir, "ca.pem"))
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// pingFor tries until an attempt succeeds or wait has passed, and returns the last failure.
func (e engine) pingFor(ctx context.Context, wait time.Duration) error {
	giveUp := time.NewTimer(wait)
	defer giveUp.Stop()
	for {
		err := e.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-giveUp.C:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (e engine) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+"/_ping", http.NoBody)
	if err != nil {
		return fmt.Errorf("ping the engine: %w", err)
	}
	res, err := e.client.Do(req)
	if err != nil {
		return fmt.Errorf("ping the engine: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Api-Version") == "" {
		return fmt.Errorf("ping the engine: %s, not a Docker Engine's answer", res.Status)
	}
	return nil
}
