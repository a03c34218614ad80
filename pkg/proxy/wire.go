package proxy

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A State travels as frames: the length of a JSON object and that of the bytes behind it, each in four
// bytes with the most significant one first; then both. Descriptors come with the lengths. What a
// process does not know in an object, and frames of a kind it does not know, it skips, so that older
// and newer ones understand each other.

// stateVersion is raised when a process that does not know the new version must not go on.
const stateVersion = 1

// Bounds of a frame.
const (
	frameFDs   = 200     // descriptors: the kernel takes 253 at once
	frameBytes = 4 << 20 // pending bytes, unless one connection has more
	frameMax   = 64 << 20
)

// A frame is a part of a State.
type frame struct {
	Kind      string     `json:"kind"`
	Version   int        `json:"version,omitempty"` // of the first frame
	Listeners []heirloom `json:"listeners,omitempty"`
	Conns     []survivor `json:"conns,omitempty"`
	FDs       int        `json:"fds,omitempty"`
}

// Kinds of frames, in their order.
const (
	frameBegin     = "begin"
	frameListeners = "listeners"
	frameConns     = "conns"
	frameEnd       = "end"
)

// Send sends s, with copies of its descriptors, to a process that calls Receive. It returns when all
// was sent, or when ctx ends.
func (s *State) Send(ctx context.Context, c *net.UnixConn) error {
	defer deadline(ctx, c)()
	err := writeFrame(c, frame{Kind: frameBegin, Version: stateVersion}, nil, nil)
	for rest := s.listeners; err == nil && len(rest) > 0; {
		n := min(len(rest), frameFDs)
		var fds []int
		for _, l := range rest[:n] {
			fds = append(fds, l.fd)
		}
		err = writeFrame(c, frame{Kind: frameListeners, Listeners: rest[:n]}, fds, nil)
		rest = rest[n:]
	}
	for rest := s.conns; err == nil && len(rest) > 0; {
		var (
			n    int
			fds  []int
			blob []byte
		)
		for n < len(rest) && len(fds)+2 <= frameFDs && len(blob) < frameBytes {
			fds = append(fds, rest[n].open()...)
			blob = append(append(blob, rest[n].pending[carry.Up]...), rest[n].pending[carry.Down]...)
			n++
		}
		err = writeFrame(c, frame{Kind: frameConns, Conns: rest[:n]}, fds, blob)
		rest = rest[n:]
	}
	if err == nil {
		err = writeFrame(c, frame{Kind: frameEnd}, nil, nil)
	}
	if err != nil {
		return fmt.Errorf("send connections: %w", because(ctx, err))
	}
	return nil
}

// open are the descriptors that c has.
func (c *survivor) open() []int {
	if c.fds[carry.Down] < 0 {
		return c.fds[:1]
	}
	return c.fds[:]
}

// deadline ends the waits of c with ctx. What it returns makes c wait again.
func deadline(ctx context.Context, c net.Conn) (undo func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		_ = c.SetDeadline(time.Time{})
	}
}

// because is err, or why ctx ended if that is the reason.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func writeFrame(c *net.UnixConn, f frame, fds []int, blob []byte) error {
	f.FDs = len(fds)
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	var lengths [8]byte
	binary.BigEndian.PutUint32(lengths[:4], uint32(len(text)))
	binary.BigEndian.PutUint32(lengths[4:], uint32(len(blob)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(lengths[:], rights, nil)
	switch {
	case err != nil:
		return err
	case n < len(lengths):
		return io.ErrShortWrite
	}
	buffers := net.Buffers{text, blob} // one call
	_, err = buffers.WriteTo(c)
	return err
}

// Receive returns the State that another process sends. On an error it has nothing of it.
func Receive(ctx context.Context, c *net.UnixConn) (*State, error) {
	defer deadline(ctx, c)()
	s := &State{}
	for first := true; ; first = false {
		f, fds, blob, err := readFrame(c)
		if err == nil {
			err = s.add(f, fds, blob, first)
		} else {
			closeFDs(fds)
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("receive connections: %w", because(ctx, err))
		}
		if f.Kind == frameEnd {
			return s, nil
		}
	}
}

// add takes what a frame has. It owns the descriptors.
func (s *State) add(f frame, fds []int, blob []byte, first bool) error {
	rest := fds
	take := func() int {
		if len(rest) == 0 {
			return -1
		}
		fd := rest[0]
		rest = rest[1:]
		return fd
	}
	defer func() { closeFDs(rest) }()
	switch {
	case first && f.Kind != frameBegin:
		return fmt.Errorf("the first frame is %q", f.Kind)
	case f.Kind == frameBegin && f.Version > stateVersion:
		return fmt.Errorf("version %d is not known, only %d", f.Version, stateVersion)
	case len(fds) != f.FDs:
		return fmt.Errorf("%d descriptors came of %d: there may be too few left", len(fds), f.FDs)
	}
	for _, l := range f.Listeners {
		if l.fd = take(); l.fd < 0 {
			return errFewFDs
		}
		s.listeners = append(s.listeners, l)
	}
	for _, c := range f.Conns {
		c.fds = [2]int{take(), -1}
		if c.ID != "" {
			c.fds[carry.Down] = take()
		}
		s.conns = append(s.conns, c)
		if c.fds[carry.Up] < 0 || c.ID != "" && c.fds[carry.Down] < 0 {
			return errFewFDs
		}
		if c.Up < 0 || c.Down < 0 || c.Up+c.Down > len(blob) {
			return errors.New("pending bytes are missing")
		}
		kept := &s.conns[len(s.conns)-1]
		kept.pending[carry.Up], blob = blob[:c.Up:c.Up], blob[c.Up:]
		kept.pending[carry.Down], blob = blob[:c.Down:c.Down], blob[c.Down:]
	}
	return nil
}

var errFewFDs = errors.New("a descriptor is missing")

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// readFrame reads one frame. Descriptors that came are returned also with an error.
func readFrame(c *net.UnixConn) (f frame, fds []int, blob []byte, err error) {
	var lengths [8]byte
	oob := make([]byte, unix.CmsgSpace(4*frameFDs))
	n, oobn, flags, _, err := c.ReadMsgUnix(lengths[:], oob)
	if err != nil {
		return f, nil, nil, err
	}
	if fds, err = rights(oob[:oobn]); err != nil {
		return f, fds, nil, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return f, fds, nil, errors.New("descriptors were lost: there may be too few left")
	}
	if _, err = io.ReadFull(c, lengths[n:]); err != nil {
		return f, fds, nil, err
	}
	text, rest := binary.BigEndian.Uint32(lengths[:4]), binary.BigEndian.Uint32(lengths[4:])
	if text > frameMax || rest > frameMax {
		return f, fds, nil, fmt.Errorf("a frame of %d and %d bytes is too long", text, rest)
	}
	b := make([]byte, text+rest)
	if _, err = io.ReadFull(c, b); err != nil {
		return f, fds, nil, err
	}
	err = json.Unmarshal(b[:text], &f)
	return f, fds, b[text:], err
}

// rights are the descriptors in control messages.
func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		fds = append(fds, some...)
		if err != nil {
			return fds, err
		}
	}
	return fds, nil
}
