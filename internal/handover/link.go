package handover

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gantryd/gantryd/internal/packet"
)

// Conns are the connections of a target that an old process still carries.
type Conns struct {
	Open  int       `json:"open"`
	Since time.Time `json:"since"`          // of the oldest one
	Left  []Conn    `json:"left,omitempty"` // the oldest ones, of a target that drains
}

// A Conn is one of them.
type Conn struct {
	Client   string    `json:"client"` // ip:port
	Target   string    `json:"target"` // ip:port
	Since    time.Time `json:"since"`
	Active   time.Time `json:"active"` // when bytes last went, either way
	BytesIn  int64     `json:"bytes_in"`
	BytesOut int64     `json:"bytes_out"`
}

// A Link joins a process that finishes its connections with the one that took its place. It may be
// used by many goroutines; Follow and Obey by one each.
type Link struct {
	conn *net.UnixConn

	mu    sync.Mutex // guards what follows
	conns map[string]Conns
	ended bool
	stuck bool // the last message found no room
}

// Adopt makes a link of a file that another successor had; conns are what it knew.
func Adopt(f *os.File, conns map[string]Conns) (*Link, error) {
	c, err := packet.Conn(f)
	if err != nil {
		return nil, err
	}
	return &Link{conn: c, conns: conns}, nil
}

// File is a duplicate of the link's socket, for the next successor.
func (l *Link) File() (*os.File, error) { return l.conn.File() }

// Conns are the connections of a target that the old process has.
func (l *Link) Conns(target string) Conns {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[target]
}

// All are the connections that the old process has.
func (l *Link) All() map[string]Conns {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.conns)
}

// Follow keeps Conns current until the old process has gone or ctx ends, and calls idle with each target
// that has no connection there any more.
func (l *Link) Follow(ctx context.Context, idle func(target string)) {
	for {
		m, files, err := receiveUntil(ctx, l.conn)
		packet.CloseAll(files)
		if ctx.Err() != nil {
			return
		}
		if err == nil && m.Step != stepConns {
			continue
		}
		l.mu.Lock()
		before := l.conns
		l.conns, l.ended = m.Conns, err != nil
		l.mu.Unlock()
		for target := range before {
			if m.Conns[target].Open == 0 {
				idle(target)
			}
		}
		if err != nil {
			return
		}
	}
}

// Ended reports whether the old process was seen to have gone.
func (l *Link) Ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// receiveUntil is receive that ends with ctx. Nothing of a packet is lost.
func receiveUntil(ctx context.Context, c *net.UnixConn) (message, []*os.File, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = c.SetReadDeadline(time.Time{})
		}
	}()
	return receive(c)
}

// How long a message waits for room. The other process reads at once, unless it is stopped or stuck.
const (
	tellWithin  = time.Second
	stuckWithin = 20 * time.Millisecond // after one that found none
)

// tell sends m, and reports whether it is on its way: not when the other side has gone, which it tells by itself,
// or takes nothing. Somebody who is stuck is waited for once, not for each message.
func (l *Link) tell(m message) bool {
	l.mu.Lock()
	within := tellWithin
	if l.stuck {
		within = stuckWithin
	}
	l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(within)) // it fails for a closed one, as send does
	err := send(l.conn, m)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = errors.Is(err, os.ErrDeadlineExceeded)
	return err == nil
}

// Tell says how many connections are left here. It waits a second at most, like all that follow.
func (l *Link) Tell(conns map[string]Conns) bool {
	return l.tell(message{Step: stepConns, Conns: conns})
}

// Drain asks the old process to close idle connections of a target.
func (l *Link) Drain(target string) bool { return l.tell(message{Step: stepDrain, Target: target}) }

// Cut asks the old process to close connections of a target, at most rate a second.
func (l *Link) Cut(target string, rate int) bool {
	return l.tell(message{Step: stepCut, Target: target, Rate: rate})
}

// Leave asks the old process to end.
func (l *Link) Leave() bool { return l.tell(message{Step: stepLeave}) }

// Obey does what the successor asks until it asks to leave, which it reports, or is gone or ctx ends.
func (l *Link) Obey(ctx context.Context, drain func(target string), cut func(target string, rate int)) (leave bool) {
	for {
		m, files, err := receiveUntil(ctx, l.conn)
		packet.CloseAll(files)
		if err != nil {
			return false
		}
		switch m.Step {
		case stepDrain:
			drain(m.Target)
		case stepCut:
			cut(m.Target, m.Rate)
		case stepLeave:
			return true
		}
	}
}

// Close gives the link up.
func (l *Link) Close() { _ = l.conn.Close() }
