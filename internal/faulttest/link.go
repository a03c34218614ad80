package faulttest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pieceSize  = 16 << 10
	queueSize  = 64                    // pieces under way in a direction
	rateTick   = 10 * time.Millisecond // between two writes at a bounded rate
	ticksInOne = int(time.Second / rateTick)
)

// A link is a connection of a client and the one to the target.
type link struct {
	proxy          *Proxy
	client, server *net.TCPConn
	over           chan struct{} // closed when it was closed on both ends at once
	close          sync.Once
	lost           atomic.Bool    // bytes that the one who sent them thinks have arrived
	ended          [2]atomic.Bool // by a fault, by Direction
}

func newLink(p *Proxy, client, server *net.TCPConn) *link {
	return &link{proxy: p, client: client, server: server, over: make(chan struct{})}
}

// cut closes both ends.
func (l *link) cut() {
	l.close.Do(func() {
		close(l.over)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// reset closes both ends with a reset.
func (l *link) reset() {
	l.close.Do(func() {
		close(l.over)
		reset(l.client)
		reset(l.server)
	})
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (l *link) end(d Direction) {
	l.ended[d].Store(true)
	_, dst := l.ends(d)
	_ = dst.CloseWrite()
}

func (l *link) ends(d Direction) (src, dst *net.TCPConn) {
	if d == Up {
		return l.client, l.server
	}
	return l.server, l.client
}

// carry returns when both directions have ended.
func (l *link) carry() {
	var wg sync.WaitGroup
	for _, d := range []Direction{Up, Down} {
		queue := make(chan piece, queueSize)
		src, _ := l.ends(d)
		wg.Go(func() { l.read(src, queue) })
		wg.Go(func() { l.write(d, queue) })
	}
	wg.Wait()
}

// A piece is what was read at once.
type piece struct {
	at   time.Time
	data []byte
	err  error // how the direction ended, after data
}

func (l *link) read(src *net.TCPConn, queue chan<- piece) {
	defer close(queue)
	for {
		b := make([]byte, pieceSize)
		n, err := src.Read(b)
		select {
		case queue <- piece{at: time.Now(), data: b[:n], err: err}:
		case <-l.over:
			return
		}
		if err != nil {
			return
		}
	}
}

func (l *link) write(d Direction, queue <-chan piece) {
	var passed int64
	for p := range queue {
		for len(p.data) > 0 {
			w, ok := l.arrival(d, p)
			if !ok || l.ended[d].Load() {
				break // the rest comes too late
			}
			if w.Lose {
				l.lost.Store(true)
				break
			}
			n := l.send(d, w, passed, p.data)
			passed += int64(n)
			p.data = p.data[n:]
		}
		if p.err != nil {
			l.finish(d, p)
		}
	}
}

// finish passes on how the direction ended.
func (l *link) finish(d Direction, p piece) {
	_, dst := l.ends(d)
	p.data = nil
	switch w, ok := l.arrival(d, p); {
	case !ok, l.ended[d].Load():
	case w.Lose:
		l.lost.Store(true)
	case errors.Is(p.err, io.EOF):
		_ = dst.CloseWrite()
	default:
		l.reset()
	}
}

// arrival waits until p may arrive, and returns what else happens to it. It is not ok when the link is over.
func (l *link) arrival(d Direction, p piece) (Way, bool) {
	for {
		w, changed := l.proxy.now(d, p.data)
		var due <-chan time.Time
		if !w.Hold {
			wait := time.Until(p.at.Add(w.Delay))
			if wait <= 0 {
				return w, true
			}
			timer := time.NewTimer(wait)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-due:
		case <-changed:
		case <-l.over:
			return w, false
		}
	}
}

// send writes as much of b as w allows at once, and returns how much it took. So many bytes have arrived
// before. Whatever ends the connection or the direction is done here.
func (l *link) send(d Direction, w Way, passed int64, b []byte) int {
	_, dst := l.ends(d)
	n := int64(len(b))
	if w.Rate > 0 {
		n = min(n, int64(max(1, w.Rate/ticksInOne)))
	}
	limit := nearest(w.ResetAfter, w.EndAfter)
	if limit > 0 {
		n = min(n, max(0, limit-passed))
	}
	if _, err := dst.Write(b[:n]); err != nil && !l.ended[d].Load() {
		l.reset()
		return len(b)
	}
	switch {
	case limit > 0 && passed+n >= limit && limit == w.ResetAfter:
		l.reset()
		return len(b)
	case limit > 0 && passed+n >= limit:
		l.end(d)
		return len(b)
	case w.Rate > 0:
		l.pause(time.Duration(n) * time.Second / time.Duration(w.Rate))
	}
	return int(n)
}

// nearest returns the smaller of two limits, of which 0 is none.
func nearest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (l *link) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.over:
	}
}
