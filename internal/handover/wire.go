package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/gantryd/gantryd/internal/packet"
)

// The protocol that this build speaks, and the oldest that it still understands.
const (
	Protocol = 2 // TCP connections move after go
	Oldest   = 2
)

// The steps. Their order is in the package's description.
const (
	stepHello    = "hello"
	stepReady    = "ready"
	stepFailed   = "failed"
	stepEstate   = "estate"
	stepPrepared = "prepared"
	stepTaken    = "taken"
	stepGo       = "go"
	stepServing  = "serving"
	stepConfirm  = "confirm"
	stepConns    = "conns"
	stepDrain    = "drain"
	stepCut      = "cut"
	stepLeave    = "leave"
)

// A message is one packet.
type message struct {
	Step     string           `json:"step"`
	Protocol int              `json:"protocol,omitempty"`
	Oldest   int              `json:"oldest,omitempty"`
	Version  string           `json:"version,omitempty"`
	PID      int              `json:"pid,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Facts    Facts            `json:"facts,omitzero"`
	Conns    map[string]Conns `json:"conns,omitempty"`
	Target   string           `json:"target,omitempty"`
	Rate     int              `json:"rate,omitempty"`
}

// Facts are what the old process tells of itself before anything else.
type Facts struct {
	Embedded string `json:"embedded,omitempty"` // where the etcd inside it listens; empty when there is none
}

// maxEstate bounds what is read of an estate.
const maxEstate = 64 << 20

// ErrGone says that the other process has ended or closed its side.
var ErrGone = packet.ErrGone

func send(c *net.UnixConn, m message, files ...*os.File) error {
	if err := packet.Send(c, m, files...); err != nil {
		return fmt.Errorf("%s: %w", m.Step, err)
	}
	return nil
}

func receive(c *net.UnixConn) (m message, files []*os.File, err error) {
	files, err = packet.Receive(c, &m)
	return m, files, err
}

// await reads messages until one of this step, and turns stepFailed into an error.
func await(ctx context.Context, c *net.UnixConn, step string) (message, []*os.File, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = c.SetReadDeadline(time.Time{})
		}
	}()
	for {
		m, files, err := receive(c)
		switch {
		case err != nil && ctx.Err() != nil:
			return m, nil, context.Cause(ctx)
		case err != nil:
			return m, nil, err
		case m.Step == step:
			return m, files, nil
		case m.Step == stepFailed:
			packet.CloseAll(files)
			return m, nil, errors.New(m.Reason)
		}
		packet.CloseAll(files) // a step of a newer protocol that may be skipped
	}
}

// bound makes reads and writes of a stream end with ctx.
func bound(ctx context.Context, stream *net.UnixConn) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// ended is why a stream that is bound by ctx failed: because that ended, or else err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return packet.Gone(err)
}

// writeBlock writes b behind its length.
func writeBlock(w io.Writer, b []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b))) //nolint:gosec // the caller bounds it
	_, err := w.Write(append(head, b...))
	return err
}

// readBlock reads what writeBlock wrote.
func readBlock(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxEstate {
		return nil, fmt.Errorf("%d bytes are too much", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// agree is the protocol that both sides speak.
func agree(theirs message) (int, error) {
	return common(Protocol, Oldest, theirs.Protocol, theirs.Oldest)
}

// common is the newest protocol that two sides speak, of which each knows a newest and an oldest one.
func common(newest, oldest, theirNewest, theirOldest int) (int, error) {
	p := min(newest, theirNewest)
	if p < oldest || p < theirOldest {
		return 0, fmt.Errorf("no common protocol: this process speaks %d to %d, the other one %d to %d",
			oldest, newest, theirOldest, theirNewest)
	}
	return p, nil
}
