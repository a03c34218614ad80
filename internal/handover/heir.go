package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/internal/packet"
)

// Variable tells a process that it was started to take over; its value is the descriptors of the pair.
const Variable = "GANTRYD_HANDOVER"

// descriptors are where a new process finds its ends: the packets' and the stream's.
const descriptors = "3,4"

// notInherited are variables that speak of one process only.
var notInherited = []string{Variable, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} //nolint:gochecknoglobals // a constant list

// ErrInit says why a process with the ID 1 has no successor.
var ErrInit = errors.New("this process is the first of its container, which ends with it: start a new container instead")

// A Heir is the new process, as the old one sees it.
type Heir struct {
	PID     int
	Version string

	process  *os.Process
	pidfd    int
	packets  *net.UnixConn
	stream   *net.UnixConn
	protocol int
}

// Start starts argv and waits until it says that it is ready to take over, or ctx ends. version is that
// of this process. The new process is a sibling, not a child: whoever supervises this one supervises it,
// too. On an error it has ended.
func Start(ctx context.Context, argv, environ []string, version string, facts Facts) (*Heir, error) {
	if os.Getpid() == 1 {
		return nil, ErrInit
	}
	h, err := start(argv, environ)
	if err != nil {
		return nil, fmt.Errorf("start %q: %w", argv[0], err)
	}
	if err := h.greet(ctx, version, facts); err != nil {
		return nil, fmt.Errorf("new process: %w", h.failed(ctx, err))
	}
	return h, nil
}

func start(argv, environ []string) (*Heir, error) {
	packets, theirPackets, err := packet.Pair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirPackets.Close()
	stream, theirStream, err := packet.Pair(syscall.SOCK_STREAM)
	if err != nil {
		_ = packets.Close() // the first error counts
		return nil, err
	}
	defer theirStream.Close()
	h := &Heir{packets: packets, stream: stream, pidfd: -1}
	h.process, err = os.StartProcess(argv[0], argv, &os.ProcAttr{
		Env:   append(inherited(environ), Variable+"="+descriptors),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, theirPackets, theirStream},
		Sys:   &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT, PidFD: &h.pidfd},
	})
	if err != nil {
		h.close()
		if e, ok := errors.AsType[*os.PathError](err); ok {
			err = e.Err
		}
		return nil, err
	}
	h.PID = h.process.Pid
	return h, nil
}

// inherited is environ without what is about this process only.
func inherited(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(notInherited, name)
	})
}

// greet says who we are, and waits for the new process to be ready.
func (h *Heir) greet(ctx context.Context, version string, facts Facts) error {
	hello := message{Step: stepHello, Protocol: Protocol, Oldest: Oldest, Version: version, PID: os.Getpid(), Facts: facts}
	if err := send(h.packets, hello); err != nil {
		return err
	}
	m, _, err := await(ctx, h.packets, stepHello)
	if err != nil {
		return err
	}
	h.Version = m.Version
	if h.protocol, err = agree(m); err != nil {
		return err
	}
	_, _, err = await(ctx, h.packets, stepReady)
	return err
}

// failed ends the new process and says why: its own words if it ended by itself.
func (h *Heir) failed(ctx context.Context, err error) error {
	if errors.Is(err, ErrGone) {
		err = errors.New("it ended before it had taken over; its output says why")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("it did not answer in time")
	}
	if endErr := h.End(ctx); endErr != nil {
		err = fmt.Errorf("%w; %w", err, endErr)
	}
	return err
}

// Give hands over what only one process may have: the estate, which is JSON, and files. It waits until
// the new process has prepared itself with them. Files stay the caller's as well.
func (h *Heir) Give(ctx context.Context, estate []byte, files ...*os.File) error {
	defer bound(ctx, h.stream)()
	if err := send(h.packets, message{Step: stepEstate}, files...); err != nil {
		return err
	}
	if err := writeBlock(h.stream, estate); err != nil {
		return fmt.Errorf("send estate: %w", ended(ctx, err))
	}
	_, _, err := await(ctx, h.packets, stepPrepared)
	return err
}

// Pass sends the last things by way of the stream and waits until the new process has them in its hands.
// Nothing is used there before Go.
func (h *Heir) Pass(ctx context.Context, last func(*net.UnixConn) error) error {
	defer bound(ctx, h.stream)()
	if err := last(h.stream); err != nil {
		return ended(ctx, err)
	}
	_, _, err := await(ctx, h.packets, stepTaken)
	return err
}

// Go lets the new process serve; there is no way back. conns are the connections that are here.
func (h *Heir) Go(conns map[string]Conns) error {
	return send(h.packets, message{Step: stepGo, Conns: conns})
}

// Serving waits until the new process serves.
func (h *Heir) Serving(ctx context.Context) error {
	_, _, err := await(ctx, h.packets, stepServing)
	return err
}

// Move passes on by way of the stream, once the new process serves, what does not stop for it.
func (h *Heir) Move(all func(*net.UnixConn) error) error { return packet.Gone(all(h.stream)) }

// Confirm tells the new process that the service manager knows of it.
func (h *Heir) Confirm() { _ = send(h.packets, message{Step: stepConfirm}) } // it goes on without

// Terminate asks the new process, which has taken over, to end as a service manager does, and waits until it has.
func (h *Heir) Terminate(ctx context.Context) error {
	_ = h.process.Signal(syscall.SIGTERM) // gone already when this fails
	return h.gone(ctx)
}

// Link is the way to the new process from now on.
func (h *Heir) Link() *Link {
	_ = h.stream.Close() // has done its work
	_ = h.process.Release()
	_ = unix.Close(h.pidfd)
	return &Link{conn: h.packets}
}

// endWithin is how long the kernel may take to end a killed process, or a process to end itself.
const endWithin = 10 * time.Second

// End kills the new process, and returns when it is gone with all that it had open.
func (h *Heir) End(ctx context.Context) error {
	defer h.close()
	_ = h.process.Kill() // gone already when this fails
	return h.gone(ctx)
}

// Ended is ErrGone when the new process has ended, or does so within the time given; else nil.
func (h *Heir) Ended(within time.Duration) error {
	for end := time.Now().Add(within); ; {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())) //nolint:gosec // a descriptor
		switch {
		case n > 0 && err == nil:
			return ErrGone
		case !errors.Is(err, unix.EINTR) || left == 0:
			return nil
		}
	}
}

// gone waits until the process has ended.
func (h *Heir) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}, 100) //nolint:gosec // a descriptor
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", h.PID, err)
		}
	}
	return fmt.Errorf("process %d does not end", h.PID)
}

func (h *Heir) close() {
	_ = h.packets.Close()
	_ = h.stream.Close()
	if h.process != nil {
		_ = h.process.Release()
	}
	if h.pidfd >= 0 {
		_ = unix.Close(h.pidfd)
		h.pidfd = -1
	}
}
