package proxy

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"time"
)

// goingAway is the status of a WebSocket close frame, RFC 6455, section 7.4.1.
const goingAway = 1001

// goodbyeLimit bounds how long a goodbye may take: the ledger is locked.
const goodbyeLimit = 10 * time.Millisecond

// sayGoingAway sends a WebSocket close frame to both sides. The frames of the connection are not followed, so it is for
// connections that are silent: then the last frame has surely passed, unless a peer stopped in the middle
// of one. Where bytes are still on their way nothing is sent.
func sayGoingAway(client net.Conn, tcp, server *net.TCPConn) {
	if unsent(tcp) > 0 || unsent(server) > 0 {
		return
	}
	frame := []byte{0x88, 2, goingAway >> 8, goingAway & 0xff} // final, close; two bytes
	by := time.Now().Add(goodbyeLimit)
	_ = client.SetWriteDeadline(by)
	_, _ = client.Write(frame)

	masked := []byte{0x88, 0x80 | 2, 0, 0, 0, 0, frame[2], frame[3]} // as a client must
	binary.BigEndian.PutUint32(masked[2:], rand.Uint32())
	masked[6] ^= masked[2]
	masked[7] ^= masked[3]
	_ = server.SetWriteDeadline(by)
	_, _ = server.Write(masked)
}
