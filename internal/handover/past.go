package handover

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/gantryd/gantryd/internal/packet"
)

// A Past is the old process, as the new one sees it.
type Past struct {
	PID     int
	Version string
	Facts   Facts

	packets  *net.UnixConn
	stream   *net.UnixConn
	protocol int
}

// helloWithin is how long the old process may take to greet.
const helloWithin = 10 * time.Second

// Inherit returns the process that this one is to take over from, nil when there is none. environ
// looks up a variable; version is that of this process.
func Inherit(ctx context.Context, environ func(string) string, version string) (*Past, error) {
	switch environ(Variable) {
	case "":
		return nil, nil
	case descriptors:
	default:
		return nil, fmt.Errorf("take over: %s=%q makes no sense", Variable, environ(Variable))
	}
	p, err := inherit(3, 4)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	if err := p.greet(ctx, version); err != nil {
		p.Close()
		return nil, fmt.Errorf("take over: %w", err)
	}
	return p, nil
}

func inherit(packetsFD, streamFD uintptr) (*Past, error) {
	p := &Past{}
	var err error
	for _, end := range []struct {
		fd uintptr
		to **net.UnixConn
	}{{packetsFD, &p.packets}, {streamFD, &p.stream}} {
		syscall.CloseOnExec(int(end.fd))
		if *end.to, err = packet.Conn(os.NewFile(end.fd, "handover")); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

func (p *Past) greet(ctx context.Context, version string) error {
	m, _, err := await(ctx, p.packets, stepHello)
	if err != nil {
		return err
	}
	p.PID, p.Version, p.Facts = m.PID, m.Version, m.Facts
	hello := message{Step: stepHello, Protocol: Protocol, Oldest: Oldest, Version: version, PID: os.Getpid()}
	if err := send(p.packets, hello); err != nil {
		return err
	}
	if p.protocol, err = agree(m); err != nil {
		return p.Fail(err)
	}
	return nil
}

// Fail tells the old process why this one cannot take over, and returns err.
func (p *Past) Fail(err error) error {
	_ = send(p.packets, message{Step: stepFailed, Reason: err.Error()}) // it sees the end otherwise
	return err
}

// Estate says that this process is ready, and waits for what the old one gives it. There is no bound but
// ctx: the old process ends this one when it has changed its mind.
func (p *Past) Estate(ctx context.Context) (estate []byte, files []*os.File, err error) {
	if err := send(p.packets, message{Step: stepReady}); err != nil {
		return nil, nil, err
	}
	if _, files, err = await(ctx, p.packets, stepEstate); err != nil {
		return nil, nil, fmt.Errorf("wait for the old process: %w", err)
	}
	defer bound(ctx, p.stream)()
	if estate, err = readBlock(p.stream); err != nil {
		packet.CloseAll(files)
		return nil, nil, fmt.Errorf("read estate: %w", ended(ctx, err))
	}
	return estate, files, nil
}

// Take says that this process is prepared, reads the last things from the stream, says that it has them,
// and waits for leave to use them. It returns the connections that the old process keeps.
func (p *Past) Take(ctx context.Context, last func(*net.UnixConn) error) (map[string]Conns, error) {
	if err := send(p.packets, message{Step: stepPrepared}); err != nil {
		return nil, err
	}
	if err := last(p.stream); err != nil {
		return nil, err
	}
	if err := send(p.packets, message{Step: stepTaken}); err != nil {
		return nil, err
	}
	m, _, err := await(ctx, p.packets, stepGo)
	if err != nil {
		return nil, fmt.Errorf("wait for leave to serve: %w", err)
	}
	return m.Conns, nil
}

// confirmWithin is how long the old process may take to tell the service manager of this one.
const confirmWithin = 5 * time.Second

// Serving tells the old process that this one serves, takes what that moves then by way of the stream, and waits
// until the service manager knows. The old process may be gone already. The error is that of move.
func (p *Past) Serving(ctx context.Context, move func(*net.UnixConn) error) error {
	_ = send(p.packets, message{Step: stepServing}) // move finds out
	err := packet.Gone(move(p.stream))
	_ = p.stream.Close() // has done its work; if not, the old process sees it
	ctx, cancel := context.WithTimeout(ctx, confirmWithin)
	defer cancel()
	_, _, _ = await(ctx, p.packets, stepConfirm) // this process serves, whatever the old one does
	return err
}

// Link is the way to the old process once Serving has returned.
func (p *Past) Link(conns map[string]Conns) *Link {
	return &Link{conn: p.packets, conns: conns}
}

// Close ends the conversation.
func (p *Past) Close() {
	for _, c := range []*net.UnixConn{p.packets, p.stream} {
		if c != nil {
			_ = c.Close()
		}
	}
}
