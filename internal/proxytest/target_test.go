package proxytest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a client waits for anything before that is a hang.
const patience = 30 * time.Second

// What a client asks a target for, with its first byte.
const (
	askQueries = 'q' // each number of 8 bytes is answered by itself and the target's number
	askSum     = 'h' // all until the client's end is answered by the target's number and its checksum
	askStream  = 's' // 8 bytes of seed and 8 of length are answered by so many random bytes
)

// A target is a server with a number.
type target struct {
	number   uint64
	ln       net.Listener
	wg       sync.WaitGroup
	accepted atomic.Int64
	retired  atomic.Bool  // no connection should come any more
	late     atomic.Int64 // those that came
	broken   atomic.Int64 // connections that ended otherwise than agreed
	why      atomic.Value // of the last of them: an error

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newTarget(t testing.TB, number uint64) *target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &target{number: number, ln: ln, conns: map[net.Conn]struct{}{}}
	s.wg.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

func (s *target) addr() string { return s.ln.Addr().String() }

// stop cuts what is left.
func (s *target) stop() {
	_ = s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// open counts the connections that have not ended here.
func (s *target) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *target) accept() {
	for {
		c, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-time.After(10 * time.Millisecond)
			continue
		}
		s.accepted.Add(1)
		late := s.retired.Load()
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			if err := s.serve(c.(*net.TCPConn), late); err != nil {
				s.why.Store(fmt.Errorf("%w", err)) // of one type, whatever it is
				s.broken.Add(1)
			}
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *target) serve(c *net.TCPConn, late bool) error {
	head := make([]byte, 17)
	if _, err := io.ReadFull(c, head[:1]); err != nil {
		return nil //nolint:nilerr // left before a word was said, as by a dial that a switch aborted
	}
	if late {
		s.late.Add(1)
	}
	switch head[0] {
	case askQueries:
		for {
			if _, err := io.ReadFull(c, head[:8]); err != nil {
				return clean(err)
			}
			binary.BigEndian.PutUint64(head[8:16], s.number)
			if _, err := c.Write(head[:16]); err != nil {
				return err
			}
		}
	case askSum:
		sum := newSum()
		if _, err := io.Copy(sum, struct{ io.Reader }{c}); err != nil {
			return err
		}
		answer := binary.BigEndian.AppendUint64(nil, s.number)
		_, err := c.Write(binary.BigEndian.AppendUint32(answer, sum.Sum32()))
		return err
	case askStream:
		if _, err := io.ReadFull(c, head[:16]); err != nil {
			return err
		}
		r := random(binary.BigEndian.Uint64(head), int64(binary.BigEndian.Uint64(head[8:])))
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, r, make([]byte, 32<<10))
		return err
	}
	return fmt.Errorf("asked for %q", head[0])
}

// clean turns the end of a connection between two questions into none.
func clean(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func newSum() interface {
	io.Writer
	Sum32() uint32
} {
	return crc32.New(crc32.MakeTable(crc32.Castagnoli))
}

// random is n bytes that the seed makes.
func random(seed uint64, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), seed))), n)
}

func dialUntil(addr string, limit time.Duration) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(limit))
	return c.(*net.TCPConn), nil
}

// A session is a client that asks queries.
type session struct {
	c     *net.TCPConn
	r     *bufio.Reader
	begun bool
	n     uint64
}

func newSession(addr string) (*session, error) {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return nil, err
	}
	return &session{c: c, r: bufio.NewReaderSize(c, 64)}, nil
}

// query returns the number of the target that answered.
func (s *session) query() (number uint64, err error) {
	s.n++
	var b []byte
	if !s.begun {
		b = append(b, askQueries)
		s.begun = true
	}
	_ = s.c.SetDeadline(time.Now().Add(patience))
	if _, err := s.c.Write(binary.BigEndian.AppendUint64(b, s.n)); err != nil {
		return 0, err
	}
	var answer [16]byte
	if _, err := io.ReadFull(s.r, answer[:]); err != nil {
		return 0, fmt.Errorf("query %d: %w", s.n, err)
	}
	if got := binary.BigEndian.Uint64(answer[:]); got != s.n {
		return 0, fmt.Errorf("query %d: answer to %d", s.n, got)
	}
	return binary.BigEndian.Uint64(answer[8:]), nil
}

func (s *session) close() { _ = s.c.Close() }

// queryOnce makes a connection for one query.
func queryOnce(addr string) (number uint64, err error) {
	s, err := newSession(addr)
	if err != nil {
		return 0, err
	}
	defer s.close()
	return s.query()
}

// sumOnce sends n bytes, ends its half, and expects their checksum and the end.
func sumOnce(addr string, seed uint64, n int64) error {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	sum := newSum()
	if _, err := c.Write([]byte{askSum}); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, sum)}, random(seed, n), make([]byte, 16<<10)); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err != nil || len(answer) != 12 || binary.BigEndian.Uint32(answer[8:]) != sum.Sum32() {
		return fmt.Errorf("after %d bytes and the end: answer %x, %w, want the checksum %x", n, answer, orNone(err), sum.Sum32())
	}
	return nil
}

// streamOnce reads n bytes, with a pause behind every 16 KiB, and compares them.
func streamOnce(ctx context.Context, addr string, seed uint64, n int64, pause time.Duration) error {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	b := binary.BigEndian.AppendUint64([]byte{askStream}, seed)
	if _, err := c.Write(binary.BigEndian.AppendUint64(b, uint64(n))); err != nil {
		return err
	}
	got, want := newSum(), newSum()
	_, _ = io.Copy(want, random(seed, n))
	var read int64
	for read < n {
		m, err := io.CopyN(got, c, min(16<<10, n-read))
		if read += m; err != nil {
			return fmt.Errorf("stream ended after %d of %d bytes: %w", read, n, err)
		}
		rest(ctx, pause)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("behind the stream: %w, want its end", orNone(err))
	}
	if got.Sum32() != want.Sum32() {
		return errors.New("stream was changed on its way")
	}
	return nil
}

var errNone = errors.New("no error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
