package relay

import (
	"net"
	"os"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// Adopt implements carry.Engine.
func (e *Engine) Adopt(fs []carry.Frozen) {
	for _, f := range fs {
		v := &visit{engine: e, conn: tcpConn(f.FDs[carry.Up]), guest: f.Guest, first: f.Pending[carry.Up], prefaced: f.Prefaced}
		f.Guest.Attach(v)
		var server *net.TCPConn
		if f.FDs[carry.Down] >= 0 {
			server = tcpConn(f.FDs[carry.Down])
		}
		lost := v.conn == nil || server == nil && f.FDs[carry.Down] >= 0
		e.mu.Lock()
		if e.visits == nil {
			lost = true
		} else {
			e.visits[v] = struct{}{}
		}
		e.mu.Unlock()
		switch {
		case lost:
			for _, c := range []*net.TCPConn{v.conn, server} {
				if c != nil {
					Reset(c)
				}
			}
			v.leave()
		case server == nil:
			e.spawn(func() { v.serve(e.within()) })
		default:
			v.resume(server, f)
		}
	}
}

// resume goes on with a connection to a target.
func (v *visit) resume(server *net.TCPConn, f carry.Frozen) {
	p := NewPair(v.conn, server, v.guest, v.engine.buffers, v.leave)
	p.pending = f.Pending
	p.over = f.Ended
	p.told = f.Passed
	p.broke.Store(f.Doomed)
	v.mu.Lock()
	v.pair = p
	if v.cut {
		p.Abort()
	}
	v.mu.Unlock()
	p.Run(v.engine.spawn)
}

// tcpConn makes a descriptor, which it takes, a connection; nil when that does not work.
func tcpConn(fd int) *net.TCPConn {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil
	}
	return t
}
