package proxy

import (
	"net"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
)

// A tunnel is a request that was upgraded: a connection with a session. It is the link to it.
type tunnel struct {
	*session
	caller *caller
	pair   interface{ Cut(reset bool) }
	bye    func() // tells both sides in their protocol that the connection ends; nil if it has no word for it
}

// join lets a client and a target speak with each other after an upgrade, until both have said all. It
// does not wait for that. conn is tcp, or its TLS.
func (p *Proxy) join(s *session, from *caller, protocol string, conn net.Conn, tcp, server *net.TCPConn) {
	t := &tunnel{session: s, caller: from}
	if strings.EqualFold(protocol, "websocket") {
		t.bye = func() { sayGoingAway(conn, tcp, server) }
	}
	if conn == net.Conn(tcp) {
		pair := relay.NewPair(tcp, server, t, p.buffers, t.leave)
		t.pair = pair
		if !p.ledger.opened(s, t) {
			pair.Abort()
		}
		pair.Run(p.wg.Go)
		return
	}
	pair := &tlsPair{client: conn, tcp: tcp, server: server, keeper: t, done: t.leave}
	t.pair = pair
	if !p.ledger.opened(s, t) {
		pair.Cut(true)
	}
	pair.left.Store(2)
	p.wg.Go(pair.up)
	p.wg.Go(pair.down)
}

// Carried implements relay.Keeper.
func (t *tunnel) Carried(w carry.Way, bytes, now int64) { t.carried(w, bytes, now) }

// Broke implements relay.Keeper: the target has answered.
func (*tunnel) Broke() {}

// Patience implements relay.Keeper: tunnels may be silent for ever.
func (*tunnel) Patience(bool) time.Duration { return 0 }

// leave is called when both connections are closed.
func (t *tunnel) leave() {
	t.caller.leave() // before it is counted no more, as of guests
	t.caller.proxy.ledger.leave(t.session)
}

// Hold implements link. Open sessions are not held.
func (*tunnel) Hold(time.Duration) {}

// Wake implements link.
func (*tunnel) Wake() {}

// Abort implements link.
func (*tunnel) Abort() {}

// Cut implements link.
func (t *tunnel) Cut(reset bool) {
	if !reset && t.bye != nil {
		t.bye()
	}
	t.pair.Cut(reset)
}
