package holder

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/packet"
)

// Name is the socket's name in the data directory.
const Name = "holder.sock"

// DefaultWait is how long sockets are kept while there is no daemon.
const DefaultWait = 5 * time.Minute

// What a daemon asks of a holder.
const (
	doTake = "take" // send all there is
	doKeep = "keep" // with one file
	doDrop = "drop"
	doEnd  = "end"
)

// A request is what a daemon asks; unknown ones are skipped.
type request struct {
	Do   string `json:"do"`
	Addr string `json:"addr,omitempty"`
}

// A reply is part of what there is, with the files of its addresses.
type reply struct {
	Addrs []string `json:"addrs,omitempty"`
	Last  bool     `json:"last,omitempty"`
	PID   int      `json:"pid,omitempty"` // of the holder, with Last
}

// A server is what the holder's process has.
type server struct {
	log *slog.Logger
	end func()

	mu      sync.Mutex // guards what follows
	sockets map[string]*os.File
	clients int
	alone   *time.Timer // ends the process; runs while there is no client
	wait    time.Duration
}

// Serve keeps sockets for the daemons that connect to l until one says that it ends, or none was there for wait,
// or ctx ends. It closes l.
func Serve(ctx context.Context, l *net.UnixListener, wait time.Duration, log *slog.Logger) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := &server{log: log, end: end, sockets: map[string]*os.File{}, wait: wait, alone: time.AfterFunc(wait, end)}
	defer s.alone.Stop()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			log.Warn("accept daemon", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		s.join(1)
		wg.Go(func() {
			defer s.join(-1)
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			s.serve(c)
		})
	}
}

// join counts the daemons, and starts or stops the time without one.
func (s *server) join(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients += n
	s.alone.Stop()
	if s.clients == 0 {
		s.alone.Reset(s.wait)
	}
}

// serve does what one daemon asks until it leaves.
func (s *server) serve(c *net.UnixConn) {
	if err := control.Trusted(c); err != nil {
		s.log.Warn("stranger", "err", err)
		return
	}
	for {
		var r request
		files, err := packet.Receive(c, &r)
		if err != nil {
			return
		}
		if r.Do == doKeep && len(files) == 1 {
			s.keep(r.Addr, files[0])
			continue
		}
		packet.CloseAll(files)
		switch r.Do {
		case doTake:
			s.give(c)
		case doDrop:
			s.keep(r.Addr, nil)
		case doEnd:
			s.end()
		}
	}
}

// keep puts f in the place of what there is for addr; nil for nothing.
func (s *server) keep(addr string, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.sockets[addr]; old != nil {
		_ = old.Close() // a duplicate
	}
	if f == nil {
		delete(s.sockets, addr)
		return
	}
	s.sockets[addr] = f
}

// give sends all there is.
func (s *server) give(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := slices.Sorted(maps.Keys(s.sockets))
	for part := range slices.Chunk(addrs, packet.MaxFiles) {
		files := make([]*os.File, len(part))
		for i, addr := range part {
			files[i] = s.sockets[addr]
		}
		if packet.Send(c, reply{Addrs: part}, files...) != nil {
			return // it left
		}
	}
	_ = packet.Send(c, reply{Last: true, PID: os.Getpid()}) // it left if this fails
}
