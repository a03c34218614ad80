package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// A Client talks to the agent of a state directory.
type Client struct{ http *http.Client }

var errSilent = errors.New("it does not answer")

// ExitInUse is the exit code of an agent that found another one at work.
const ExitInUse = 4

// maxLog is the size from which the log of the agent is put aside at its next start.
const maxLog = 8 << 20

// startWithin is how long a new agent may take until it answers.
const startWithin = 15 * time.Second

// Bounds of the wait for an agent that somebody else started.
const (
	ownerWithin = 30 * time.Second // it has the lock of the state directory, and starts or takes over
	unitWithin  = 15 * time.Second // its service manager is about to start it
	askAgain    = 100 * time.Millisecond
)

// NewClient returns a client; it connects with each call. An agent that lives and is about to open its socket is
// waited for.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return control.Reach(ctx, "unix", filepath.Dir(socket), filepath.Base(socket))
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Ensure returns a client of the agent of stateDir. When none lives it starts one, unless a service manager does:
// command is its argv. The agent outlives the caller; its log is agent.log in the state directory.
func Ensure(ctx context.Context, stateDir string, command []string) (*Client, error) {
	socket, err := Socket(stateDir)
	if err != nil {
		return nil, err
	}
	c, begin := NewClient(socket), time.Now()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		if _, err := c.Ping(ctx); err == nil {
			return c, nil
		}
		waited := time.Since(begin)
		switch pid := localstate.Owner(stateDir); {
		case pid != 0 && waited > ownerWithin:
			return nil, fmt.Errorf("agent, process %d, does not answer for %v", pid, ownerWithin)
		case pid == 0 && !supervised(stateDir):
			if err := os.MkdirAll(stateDir, 0o700); err != nil {
				return nil, fmt.Errorf("make state directory: %w", err)
			}
			return c, c.spawn(ctx, stateDir, command)
		case pid == 0 && waited > unitWithin:
			return nil, fmt.Errorf("the agent does not run, and its service manager does not start it: do that (systemctl start gantry-agent), or remove %q to have commands start one again",
				filepath.Join(stateDir, supervisedMark))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *Client) spawn(ctx context.Context, stateDir string, command []string) error {
	path := filepath.Join(stateDir, "agent.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Rename(path, path+".1") // goes on growing when this fails
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of the agent: %w", err)
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open log of the agent: %w", err)
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // our own binary; it must outlive ctx
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = log, log, "/", ownEnvironment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	exited := make(chan int, 1)
	waitFor(cmd, exited)
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := c.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case code := <-exited:
			if code == ExitInUse {
				continue // another command was quicker; its agent is on its way
			}
			return fmt.Errorf("start agent: it ended at once: %s", tail(path, start))
		case <-ctx.Done():
			return fmt.Errorf("start agent: no answer within %v, see %s", startWithin, path)
		}
	}
}

// tail returns what was written to the file since start, in one line.
func tail(path string, start int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < start {
		return "see " + path
	}
	lines := strings.Split(strings.TrimSpace(string(b[start:])), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Ping asks who answers.
func (c *Client) Ping(ctx context.Context) (Info, error) {
	var info Info
	return info, c.get(ctx, "/ping", &info)
}

// Status is what the agent sees of a component.
func (c *Client) Status(ctx context.Context, name string) (component.HostStatus, error) {
	var st component.HostStatus
	return st, c.get(ctx, "/status?component="+url.QueryEscape(name), &st)
}

// answerWithin is the longest wait for an answer that needs no work.
const answerWithin = 3 * time.Second

func (c *Client) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errSilent)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// Do carries an action out and calls on with each event of it. An *Error says why it did not end
// well. It goes on with the next process when the agent is replaced meanwhile.
func (c *Client) Do(ctx context.Context, r Request, on func(component.Event)) error {
	return untilMoved(ctx, func() error { return c.do(ctx, &r, on) })
}

// untilMoved calls f again as long as that ends because the agent was replaced.
func untilMoved(ctx context.Context, f func() error) error {
	for {
		err := f()
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeMoved {
			return err
		}
		select {
		case <-time.After(moveWait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// moveWait is the pause until a new process of the agent may answer.
const moveWait = 100 * time.Millisecond

// do is one try of Do; it notes in r which action to follow if there is to be another.
func (c *Client) do(ctx context.Context, r *Request, on func(component.Event)) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/do", bytes.NewReader(b))
	if err != nil {
		return err
	}
	return c.stream(req, func(l line) {
		if l.Event != nil {
			on(*l.Event)
		}
		if l.Generation != 0 {
			r.Resume = l.Generation
		}
	})
}

// Follow calls on with each event of a component until ctx ends or the agent does. It goes on with the next process
// when the agent is replaced.
func (c *Client) Follow(ctx context.Context, name string, on func(component.Event)) error {
	return untilMoved(ctx, func() error { return c.follow(ctx, name, on) })
}

func (c *Client) follow(ctx context.Context, name string, on func(component.Event)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/follow?component="+url.QueryEscape(name), nil)
	if err != nil {
		return err
	}
	return c.stream(req, func(l line) {
		if l.Event != nil {
			on(*l.Event)
		}
	})
}

func (c *Client) stream(req *http.Request, on func(line)) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what it says, if anything
		return refuse(CodeInvalid, "agent: %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var l line
		if err := dec.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return errors.New("the agent ended in the middle; run the command again")
			}
			return err
		}
		switch {
		case !l.End:
			on(l)
		case l.Error != nil:
			return l.Error
		default:
			return nil
		}
	}
}
