package agent

import (
	"fmt"
	"path/filepath"

	"github.com/gantryd/gantryd/pkg/component"
)

// An Action is what a command asks of a component.
type Action string

// The actions.
const (
	Start  Action = "start"
	Update Action = "update"
	Stop   Action = "stop"
	Kill   Action = "kill"
)

// A Request is one action on one component.
type Request struct {
	Action    Action            `json:"action"`
	Component string            `json:"component"`
	Project   component.Project `json:"project"` // the whole file: links are looked up in it
	By        string            `json:"by,omitempty"`
	// Resume is the generation of an action that another process of the agent began: it is only followed.
	Resume int64 `json:"resume,omitempty"`
}

// Info tells who answers.
type Info struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// A Code tells programs why an action was refused or failed.
type Code string

// The codes.
const (
	CodeRunning     Code = "already-running"
	CodeNotRunning  Code = "not-running"
	CodeUnknown     Code = "unknown-component"
	CodeFailed      Code = "failed"
	CodeSuperseded  Code = "superseded"
	CodeUnreachable Code = "unreachable" // Docker Engine does not answer
	CodeInvalid     Code = "invalid"
	CodeMoved       Code = "moved" // another process is the agent
)

// An Error is how an action ended when it did not end well.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Log     []string `json:"log,omitempty"` // last lines of the container that failed
}

// Error is the message for people.
func (e *Error) Error() string { return e.Message }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// A line is one line of a stream.
type line struct {
	Event *component.Event `json:"event,omitempty"`
	End   bool             `json:"end,omitempty"`
	Error *Error           `json:"error,omitempty"` // with End
	// Generation is that of the action, once it is stored.
	Generation int64 `json:"generation,omitempty"`
}

// maxSocketPath is the kernel's limit for the path of a unix socket, less the ending zero.
const maxSocketPath = 107

// SocketName is the name of the agent's socket in its state directory.
const SocketName = "agent.sock"

// Socket is the path of the agent's socket in a state directory.
func Socket(stateDir string) (string, error) {
	path := filepath.Join(stateDir, SocketName)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("state directory %q: path too long for a socket (%d of at most %d bytes)", stateDir, len(path), maxSocketPath)
	}
	return path, nil
}
