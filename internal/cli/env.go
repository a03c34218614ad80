package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"

	"github.com/gantryd/gantryd/internal/agent"
	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
)

// Env is everything a command may touch outside its flags.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Self     []string // argv that runs this binary again; for gantry's agent
}

// Exit codes, the same for both binaries.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4 // a conflict, or a halted rollout
	exitUnreachable = 5 // etcd or Docker Engine does not answer
)

// A failure is an error that knows its exit code and the way out.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, format string, args ...any) *failure {
	return &failure{code: code, err: fmt.Errorf(format, args...)}
}

func (f *failure) withHint(format string, args ...any) *failure {
	f.hint = fmt.Sprintf(format, args...)
	return f
}

// finish prints err, if there is one, and returns the exit code.
func finish(env Env, name string, err error) int {
	if err == nil {
		return exitOK
	}
	if q, ok := errors.AsType[quiet](err); ok {
		return int(q)
	}
	fmt.Fprintf(env.Err, "%s: %s\n", name, cleanLines(err.Error()))
	f := classify(err)
	if f.hint != "" {
		fmt.Fprintf(env.Err, "hint: %s\n", f.hint)
	}
	return f.code
}

// classify finds the exit code of an error that does not carry one.
func classify(err error) *failure {
	var f *failure
	var a *agent.Error
	var m *operator.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &m):
		return &failure{code: mistakeCode(m.Kind), err: err, hint: m.Hint}
	case errors.As(err, &a):
		return &failure{code: agentCode(a.Code), err: err}
	case errors.Is(err, component.ErrUnreachable), errors.Is(err, component.ErrEngineUnreachable):
		return &failure{code: exitUnreachable, err: err}
	case errors.Is(err, component.ErrChanged), errors.Is(err, component.ErrTurnTaken):
		return &failure{code: exitRefused, err: err}
	case errors.Is(err, context.Canceled):
		return &failure{code: exitFailed, err: err}
	}
	return &failure{code: exitFailed, err: err}
}

func mistakeCode(k operator.Kind) int {
	switch k {
	case operator.Invalid:
		return exitUsage
	case operator.NotFound:
		return exitNotFound
	case operator.Refused:
		return exitRefused
	}
	return exitFailed
}

func agentCode(c agent.Code) int {
	switch c {
	case agent.CodeUnknown:
		return exitNotFound
	case agent.CodeRunning, agent.CodeNotRunning, agent.CodeSuperseded:
		return exitRefused
	case agent.CodeUnreachable:
		return exitUnreachable
	case agent.CodeInvalid:
		return exitUsage
	case agent.CodeFailed, agent.CodeMoved:
	}
	return exitFailed
}

// person is who asks, as history and status show it.
func person(getenv func(string) string) string {
	name := getenv("SUDO_USER")
	if name == "" {
		name = getenv("USER")
	}
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// logger writes to Err; GANTRYD_LOG sets the level (debug, info, warn, error).
func logger(env Env, level slog.Level) *slog.Logger {
	if s := env.Getenv("GANTRYD_LOG"); s != "" {
		_ = level.UnmarshalText([]byte(s)) // an unknown word leaves the default
	}
	return slog.New(slog.NewTextHandler(env.Err, &slog.HandlerOptions{Level: level}))
}
