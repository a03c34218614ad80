package proxy

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// tlsBuffer is what one direction of a tlsPair holds, about one record of TLS.
const tlsBuffer = 16 << 10

// A tlsPair is what a relay.Pair is, for an upgraded connection whose client speaks TLS to us: its bytes cannot be
// moved by the kernel, and it keeps its buffers.
type tlsPair struct {
	client      net.Conn
	tcp, server *net.TCPConn // tcp carries client
	keeper      *tunnel
	done        func()
	left        atomic.Int32 // directions that are not over
}

// Cut ends the pair: the directions notice and leave.
func (r *tlsPair) Cut(reset bool) {
	for _, c := range []*net.TCPConn{r.tcp, r.server} {
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}

// up carries what the client says.
func (r *tlsPair) up() {
	defer r.leave()
	if r.copy(r.server, r.client, carry.Up) != nil || r.server.CloseWrite() != nil {
		r.Cut(true)
	}
}

// down carries what the target says.
func (r *tlsPair) down() {
	defer r.leave()
	err := r.copy(r.client, r.server, carry.Down)
	w, ok := r.client.(interface{ CloseWrite() error })
	if err != nil || !ok || w.CloseWrite() != nil {
		r.Cut(true)
	}
}

// copy carries bytes until src has no more.
func (r *tlsPair) copy(dst io.Writer, src io.Reader, way carry.Way) error {
	buf := make([]byte, tlsBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			r.keeper.Carried(way, int64(n), carry.Now())
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// leave closes both connections when the last direction is over.
func (r *tlsPair) leave() {
	if r.left.Add(-1) > 0 {
		return
	}
	_ = r.client.Close()
	_ = r.server.Close()
	r.done()
}
