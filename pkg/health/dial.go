package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gantryd/gantryd/pkg/component"
)

// A dialFunc connects to ip:port.
type dialFunc func(ctx context.Context, addr string) (net.Conn, error)

// dialTCP is the dialFunc outside of tests.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if toItself(conn) {
		_ = conn.Close()
		return nil, syscall.ECONNREFUSED
	}
	return conn, nil
}

// toItself reports whether both ends of conn are the same: on the loopback address (a container on
// the host's network) polling a port that nobody listens on comes to that now and then.
func toItself(conn net.Conn) bool { return conn.LocalAddr().String() == conn.RemoteAddr().String() }

// connect dials and sees to it that the connection ends with the attempt, whatever a library that
// gets it does.
func (p *Prober) connect(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := p.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}

// probeTCP passes when the container takes a connection.
func (p *Prober) probeTCP(ctx context.Context, t component.ProbeTarget, port int) error {
	addr, err := authority(t, port)
	if err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	conn, err := p.connect(ctx, addr)
	if err != nil {
		return fmt.Errorf("connect %s: %w", addr, reason(ctx, err))
	}
	_ = conn.Close()
	return nil
}

// reason is why an attempt failed, in few words: the end of ctx when that was it, else the innermost
// cause, without the addresses that differ from one attempt to the next.
func reason(ctx context.Context, err error) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		<-ctx.Done() // a socket's deadline may fire a moment before the context's
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		err = e.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errHungUp
	}
	if text := firstLine(err.Error()); text != err.Error() {
		return errors.New(text) // the server may have written it
	}
	return err
}

var errHungUp = errors.New("connection closed before the answer was complete")

const maxReason = 200 // characters

// firstLine is the first line of s that is not blank, made fit for a log or a terminal: no control
// characters, not longer than maxReason.
func firstLine(s string) string {
	for line := range strings.Lines(s[:min(len(s), 64<<10)]) {
		line = strings.Map(printable, strings.ToValidUTF8(line, "\uFFFD"))
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if r := []rune(line); len(r) > maxReason {
			line = string(r[:maxReason]) + "…"
		}
		return line
	}
	return ""
}

func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case unicode.IsGraphic(r):
		return r
	}
	return -1
}
