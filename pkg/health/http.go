package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/gantryd/gantryd/pkg/component"
)

const (
	userAgent    = "gantryd-check"
	maxHeaders   = 64 << 10 // bytes of an answer's headers
	maxAnswer    = 1 << 20  // bytes read of its body
	maxRedirects = 10
)

// A request is what an http or https check or signal sends.
type request struct {
	method  string
	scheme  string
	port    int
	path    string
	headers map[string]string
	expect  []int // status codes that pass; none: 200 to 299
}

func checkRequest(c component.Check) request {
	return request{http.MethodGet, c.Kind, c.Port, c.Path, c.Headers, c.ExpectStatus}
}

func signalRequest(s component.Signal) request {
	return request{http.MethodPost, s.Kind, s.Port, s.Path, s.Headers, nil}
}

// address is the URL as messages show it and as it is asked for.
func (r request) address(t component.ProbeTarget) (string, error) {
	host, err := authority(t, r.port)
	if err != nil {
		return "", err
	}
	path := r.path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return r.scheme + "://" + host + path, nil
}

// passes reports whether an answer with this status is a pass.
func (r request) passes(status int) bool {
	if len(r.expect) > 0 {
		return slices.Contains(r.expect, status)
	}
	return status >= 200 && status < 300
}

// request sends r over a connection of its own. It passes when the status does and the body, up to
// maxAnswer, came whole.
func (p *Prober) request(ctx context.Context, t component.ProbeTarget, r request) error {
	address, err := r.address(t)
	if err != nil {
		return fmt.Errorf("%s: %w", r.scheme, err)
	}
	what := r.method + " " + address
	req, err := http.NewRequestWithContext(ctx, r.method, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("%s: %w", what, reason(ctx, err))
	}
	if err := r.setHeaders(req); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	client := http.Client{Transport: oneShot{p, req.URL.Host, tlsConfig(req)}, CheckRedirect: r.follow}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, reason(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	status := strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	if !r.passes(resp.StatusCode) {
		return fmt.Errorf("%s: %s", what, status)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, maxAnswer); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %s, then its body: %w", what, status, reason(ctx, err))
	}
	return nil
}

func (r request) setHeaders(req *http.Request) error {
	req.Header.Set("User-Agent", userAgent)
	for name, value := range r.headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("header %q is not valid", name)
		}
		if !strings.EqualFold(name, "Host") {
			req.Header.Set(name, value)
			continue
		}
		if !httpguts.ValidHostHeader(value) || strings.ContainsAny(value, " /") {
			return fmt.Errorf("header %q is not valid", name)
		}
		req.Host = value
	}
	return nil
}

// tlsConfig takes any certificate: one inside a container is signed by itself or made out to the
// public name, never to the container's address. The packets do not leave the host.
func tlsConfig(req *http.Request) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see above
	if host := hostOnly(req.Host); net.ParseIP(host) == nil {
		cfg.ServerName = host // a server with several certificates chooses by it
	}
	return cfg
}

// follow is asked before a redirect: those within the container are followed, others fail the check.
// A redirect to the name that the Host header gave is one within the container.
func (r request) follow(next *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case slices.Contains(r.expect, next.Response.StatusCode):
		return http.ErrUseLastResponse
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case next.URL.Scheme != first.URL.Scheme ||
		hostPort(next.URL, next.URL.Host) != hostPort(first.URL, first.URL.Host) && !strings.EqualFold(next.URL.Host, first.Host):
		return fmt.Errorf("%d redirect to %q, which is not the container", next.Response.StatusCode, next.URL)
	}
	next.URL.Host, next.Host = first.URL.Host, first.Host
	next.Header = first.Header.Clone() // the client leaves credentials out when the name differs
	return nil
}

// hostPort is host with the port of u's scheme when it names none.
func hostPort(u *url.URL, host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return host + map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
