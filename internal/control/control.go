package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the socket's name in the data directory.
const Name = "control.sock"

// Bounds of a request.
const (
	maxRequest    = 1 << 20
	requestWithin = 5 * time.Second
)

// ErrNobody says that no daemon answers.
var ErrNobody = errors.New("no daemon runs")

// A Request is what a command asks.
type Request struct {
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// An answer is what comes back.
type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// A FailedError is an answer that the command failed.
type FailedError struct{ Reason string }

// Error is the daemon's words.
func (f *FailedError) Error() string { return f.Reason }

// A Handler carries out a command, to its end: neither a client that leaves nor the end of Serve breaks it off.
type Handler func(ctx context.Context, args json.RawMessage) (result any, err error)

// Listen makes the socket of dir, whose lock the caller has.
func Listen(ctx context.Context, dir string) (*net.UnixListener, error) {
	return Bind(ctx, "unix", dir, Name)
}

// Serve answers on l until ctx ends; it closes l, and returns once the commands under way are answered.
func Serve(ctx context.Context, l *net.UnixListener, handlers map[string]Handler, log *slog.Logger) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close() // too late
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			log.Warn("accept command", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		wg.Go(func() { serve(context.WithoutCancel(ctx), c, handlers, log) })
	}
}

func serve(ctx context.Context, c *net.UnixConn, handlers map[string]Handler, log *slog.Logger) {
	defer c.Close()
	var out answer
	result, err := handle(ctx, c, handlers)
	if err == nil {
		out.Result, err = json.Marshal(result)
	}
	if err != nil {
		out = answer{Error: err.Error()}
	}
	_ = c.SetWriteDeadline(time.Now().Add(requestWithin))
	if err := json.NewEncoder(c).Encode(out); err != nil {
		log.Debug("answer command", "err", err)
	}
}

func handle(ctx context.Context, c *net.UnixConn, handlers map[string]Handler) (any, error) {
	_ = c.SetReadDeadline(time.Now().Add(requestWithin))
	var req Request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&req); err != nil {
		return nil, fmt.Errorf("read command: %w", err)
	}
	if err := Trusted(c); err != nil { // not before all was read, or the answer would be lost
		return nil, err
	}
	h, ok := handlers[req.Command]
	if !ok {
		return nil, fmt.Errorf("unknown command %q: this daemon is older than the command line", req.Command)
	}
	return h(ctx, req.Args)
}

// Trusted is nil when root or this process's own user is at the other end.
func Trusted(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if ctrlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctrlErr != nil {
		return ctrlErr
	}
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not command this daemon, which runs as user %d", cred.Uid, os.Geteuid())
	}
	return nil
}

// Call asks the daemon of dir and reads its answer into result. One that starts, or was just replaced, is waited
// for, as Reach does. ErrNobody when there is none; *FailedError when it refuses.
func Call(ctx context.Context, dir string, req Request, result any) error {
	c, err := Reach(ctx, "unix", dir, Name)
	if Absent(err) {
		return fmt.Errorf("%w with data directory %q", ErrNobody, dir)
	}
	if err != nil {
		return fmt.Errorf("reach daemon: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return fmt.Errorf("ask daemon: %w", orCause(ctx, err))
	}
	var out answer
	if err := json.NewDecoder(c).Decode(&out); err != nil {
		return fmt.Errorf("wait for the daemon's answer: %w", orCause(ctx, err))
	}
	if out.Error != "" {
		return &FailedError{out.Error}
	}
	return json.Unmarshal(out.Result, result)
}

// orCause is why ctx ended when it has, which closed the connection, else err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
