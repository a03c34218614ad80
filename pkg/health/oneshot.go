package health

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// A oneShot sends each request over a connection of its own, to one address, in HTTP/1.1. Unlike
// http.Transport it has no goroutines that outlive the request, and it does not write to the
// process's log what a server says that nobody asked.
type oneShot struct {
	prober *Prober
	addr   string // the only one it connects to
	tls    *tls.Config
}

// RoundTrip implements http.RoundTripper. Closing the answer's body closes the connection; the end of
// the request's context does so too.
func (o oneShot) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != o.addr {
		return nil, fmt.Errorf("%s is not the container", req.URL.Host) // cannot be: see request.follow
	}
	ctx := req.Context()
	conn, err := o.prober.connect(ctx, o.addr)
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme == "https" {
		secure := tls.Client(conn, o.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	resp, err := exchange(conn, req)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return resp, nil
}

// exchange writes the request and reads the answer's headers.
func exchange(conn net.Conn, req *http.Request) (*http.Response, error) {
	out := *req
	out.Close = true // sends "Connection: close"
	if err := out.Write(conn); err != nil {
		return nil, err
	}
	bounded := &io.LimitedReader{R: conn, N: maxHeaders}
	r := bufio.NewReader(bounded)
	for {
		resp, err := http.ReadResponse(r, req)
		switch {
		case err != nil && bounded.N <= 0:
			return nil, errTooLong
		case err != nil:
			return nil, err
		case resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols:
			continue // an interim answer
		}
		bounded.N = 1 << 62 // who reads the body bounds it
		// The body's own Close would read it to its end.
		resp.Body = struct {
			io.Reader
			io.Closer
		}{resp.Body, conn}
		return resp, nil
	}
}

var errTooLong = errors.New("headers of the answer are too long")
