package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"path/filepath"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

// An endpoint is where Docker Engine listens.
type endpoint struct {
	host    string // as DOCKER_HOST has it
	network string // unix or tcp
	addr    string
	certs   *tlsconfig.Options // nil without TLS
	version string             // DOCKER_API_VERSION; empty: agree on one
}

func newEndpoint(getenv func(string) string) (endpoint, error) {
	host := getenv(client.EnvOverrideHost)
	if host == "" {
		host = client.DefaultDockerHost
	}
	u, err := client.ParseHostURL(host)
	if err != nil {
		return endpoint{}, fmt.Errorf("%s: %w", client.EnvOverrideHost, err)
	}
	ep := endpoint{host: host, network: u.Scheme, addr: u.Host, version: getenv(client.EnvOverrideAPIVersion)}
	switch u.Scheme {
	case "unix":
		return ep, nil
	case "tcp", "http", "https":
		ep.network = "tcp"
	default:
		return endpoint{}, fmt.Errorf("%s: %q is neither unix:// nor tcp://", client.EnvOverrideHost, host)
	}
	certs, verify := getenv(client.EnvOverrideCertPath), getenv(client.EnvTLSVerify)
	if certs == "" && verify == "" && u.Scheme != "https" {
		return ep, nil
	}
	if certs == "" {
		certs = configDir(getenv)
	}
	ep.certs = &tlsconfig.Options{
		CAFile:             filepath.Join(certs, "ca.pem"),
		CertFile:           filepath.Join(certs, "cert.pem"),
		KeyFile:            filepath.Join(certs, "key.pem"),
		InsecureSkipVerify: verify == "", // as Docker's own client has it
	}
	if _, err := tlsconfig.Client(*ep.certs); err != nil {
		return endpoint{}, fmt.Errorf("read certificates for %q: %w", host, err)
	}
	return ep, nil
}

// configDir is the directory of Docker's client configuration.
func configDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home := getenv("HOME")
	if home == "" { // a system service often has none
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return filepath.Join(home, ".docker")
}

// local reports whether the Engine is on this machine and sees its files.
func (ep endpoint) local() bool { return ep.network == "unix" }

// client makes a client that has not agreed on an API version yet. Certificates are read again, for
// they may have been renewed.
func (ep endpoint) client(dialTimeout time.Duration) (*client.Client, error) {
	dial, err := ep.dialer(dialTimeout)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}
	cli, err := client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: tr, CheckRedirect: client.CheckRedirect}),
		client.WithHost(ep.host),
		client.WithDialContext(dial),
		client.WithScheme("http"), // TLS is the dialer's business
		client.WithVersion(ep.version),
	)
	if err != nil {
		return nil, fmt.Errorf("create client for %q: %w", ep.host, err)
	}
	tr.Proxy = nil // a proxy would not know the way to this machine's Engine
	return cli, nil
}

// cutKey marks a context whose end closes the connection dialled with it. Docker's client hands a
// hijacked connection (exec) to nobody who would end a read when the context does.
type cutKey struct{}

// dialer returns the function that opens all connections. It does TLS itself, because Docker's
// client forgets the context when it opens a TLS connection to hijack.
func (ep endpoint) dialer(timeout time.Duration) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	var conf *tls.Config
	if ep.certs != nil {
		var err error
		if conf, err = tlsconfig.Client(*ep.certs); err != nil {
			return nil, fmt.Errorf("read certificates for %q: %w", ep.host, err)
		}
		if conf.ServerName == "" {
			if name, _, err := net.SplitHostPort(ep.addr); err == nil {
				conf.ServerName = name
			}
		}
	}
	d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialCtx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := d.DialContext(dialCtx, ep.network, ep.addr)
		if err != nil {
			return nil, err
		}
		if conf != nil {
			secure := tls.Client(conn, conf)
			if err := secure.HandshakeContext(dialCtx); err != nil {
				conn.Close()
				return nil, err
			}
			conn = secure
		}
		if ctx.Value(cutKey{}) != nil {
			context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, nil
	}, nil
}
