package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/packet"
)

// Bounds of what a daemon waits for.
const (
	hearWithin   = 2 * time.Second  // a holder that reads what it is told
	answerWithin = 10 * time.Second // its answer: until then it is only slow
	endWithin    = 2 * time.Second  // its end
	retryAfter   = time.Second      // another try after a failure
)

// A Keeper is the daemon's side.
type Keeper struct {
	dir  string
	argv []string
	log  *slog.Logger

	mu       sync.Mutex // guards what follows
	conn     *net.UnixConn
	sockets  map[string]*os.File // what is to be kept, by address
	detached bool
}

// New returns a keeper of the data directory dir, whose lock the caller has. argv starts a process that calls
// Serve with the listener that it inherits as descriptor 3.
func New(dir string, argv []string, log *slog.Logger) *Keeper {
	return &Keeper{dir: dir, argv: argv, log: log, sockets: map[string]*os.File{}}
}

// Kept returns the sockets that a daemon before this one left, which are the caller's now.
func (k *Keeper) Kept(ctx context.Context) []*os.File {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.dial(ctx); err != nil {
		return nil // nobody held anything
	}
	_, files, err := take(ctx, k.conn)
	if err != nil {
		k.log.Warn("take listening sockets from the holder", "err", err)
		k.hangUp()
	}
	return files
}

// take asks for all there is. Nobody else may read from c.
func take(ctx context.Context, c *net.UnixConn) (addrs []string, all []*os.File, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() {
			return
		}
		_ = c.SetReadDeadline(time.Time{})
	}()
	if err := packet.Send(c, request{Do: doTake}); err != nil {
		return nil, nil, err
	}
	for {
		var r reply
		files, err := packet.Receive(c, &r)
		addrs, all = append(addrs, r.Addrs...), append(all, files...)
		if err != nil || r.Last {
			return addrs, all, err
		}
	}
}

// dial connects to the holder that is there. The caller holds mu.
func (k *Keeper) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hearWithin)
	defer cancel()
	c, err := control.Dial(ctx, "unixpacket", k.dir, Name)
	if err == nil {
		k.conn = c
	}
	return err
}

// hangUp ends the connection. The caller holds mu.
func (k *Keeper) hangUp() {
	if k.conn != nil {
		_ = k.conn.Close()
		k.conn = nil
	}
}

// Opened implements proxy.Keeper.
func (k *Keeper) Opened(addr netip.AddrPort, f *os.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.detached {
		_ = f.Close()
		return
	}
	if old := k.sockets[addr.String()]; old != nil {
		_ = old.Close() // a duplicate
	}
	k.sockets[addr.String()] = f
	k.tell(request{Do: doKeep, Addr: addr.String()}, f)
}

// Closed implements proxy.Keeper. A holder that this does not reach is told by Run or End.
func (k *Keeper) Closed(addr netip.AddrPort) (refuse bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.detached {
		return false
	}
	if f := k.sockets[addr.String()]; f != nil {
		_ = f.Close() // a duplicate
		delete(k.sockets, addr.String())
	}
	k.tell(request{Do: doDrop, Addr: addr.String()})
	return true
}

// tell sends r if there is a holder. Run starts another one, or reconciles, when it fails. The caller holds mu.
func (k *Keeper) tell(r request, files ...*os.File) {
	if k.conn == nil {
		return
	}
	_ = k.conn.SetWriteDeadline(time.Now().Add(hearWithin))
	if err := packet.Send(k.conn, r, files...); err != nil {
		k.log.Debug("holder does not listen", "err", err)
		_ = k.conn.CloseRead() // Run looks after it
	}
}

// Run keeps a holder alive, and of one mind with this process, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil && !k.isDetached() {
		conn, err := k.ensure(ctx)
		if err != nil {
			if !k.isDetached() && ctx.Err() == nil && err.Error() != said {
				k.log.Warn("no process holds the listening sockets: if this one is killed, clients are refused", "err", err)
				said = err.Error()
			}
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
			continue
		}
		said = ""
		err = awaitEnd(ctx, conn)
		if ctx.Err() != nil || k.isDetached() {
			return
		}
		k.log.Warn("the holder of the listening sockets is gone, starting another one", "err", err)
		k.lose(conn)
	}
}

// awaitEnd returns when the holder at the other end is gone, or ctx ends. A holder says nothing by itself.
func awaitEnd(ctx context.Context, conn *net.UnixConn) (err error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	for err == nil {
		var (
			r     reply
			files []*os.File
		)
		files, err = packet.Receive(conn, &r)
		packet.CloseAll(files)
	}
	return err
}

func (k *Keeper) isDetached() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.detached
}

// lose ends a connection that is of no use any more.
func (k *Keeper) lose(conn *net.UnixConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == conn {
		k.hangUp()
	}
}

// ensure returns the connection to a holder that has all sockets, and no other ones; it starts one if there is
// none.
func (k *Keeper) ensure(ctx context.Context) (*net.UnixConn, error) {
	conn, fresh, err := k.reach(ctx)
	if err != nil || fresh {
		return conn, err
	}
	if err := k.reconcile(ctx, conn); err != nil {
		k.lose(conn)
		return nil, fmt.Errorf("ask the holder for what it has: %w", err)
	}
	return conn, nil
}

// reach connects to the holder, or starts one, and gives it all sockets. A fresh one has had no others.
func (k *Keeper) reach(ctx context.Context) (conn *net.UnixConn, fresh bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.detached {
		return nil, false, errors.New("another process looks after the sockets")
	}
	if k.conn == nil && k.dial(ctx) != nil {
		if err := k.start(ctx); err != nil {
			return nil, false, err
		}
		fresh = true
	}
	for _, addr := range slices.Sorted(maps.Keys(k.sockets)) {
		k.tell(request{Do: doKeep, Addr: addr}, k.sockets[addr])
	}
	return k.conn, fresh, nil
}

// reconcile has the holder drop what is not to be kept: it missed a word, or has it from another run. Only words
// that every holder knows are used, since it may be of an older version.
func (k *Keeper) reconcile(ctx context.Context, conn *net.UnixConn) error {
	has, files, err := take(ctx, conn)
	packet.CloseAll(files)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, addr := range has {
		if k.sockets[addr] == nil {
			k.tell(request{Do: doDrop, Addr: addr})
		}
	}
	return nil
}

// start starts a holder and connects to it. The caller holds mu.
func (k *Keeper) start(ctx context.Context) error {
	if os.Getpid() == 1 {
		return errors.New("this process is the first of its container, which ends with it")
	}
	l, err := control.Bind(ctx, "unixpacket", k.dir, Name)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// A sibling, not a child: it may outlive this process, and whoever reaps this one reaps it.
	p, err := os.StartProcess(k.argv[0], k.argv, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{null, null, null, f},
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_PARENT},
	})
	if err != nil {
		return fmt.Errorf("start holder: %w", err)
	}
	_ = p.Release()
	return k.dial(ctx)
}

// Detach ends this process's part; another process of the daemon takes it over.
func (k *Keeper) Detach() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.detached = true
	k.hangUp()
	k.closeAll()
}

// End gives the sockets up: the holder ends, also one that this process has no connection to. It returns when
// the holder has closed its own connections, which is the last thing it does, or after some seconds.
func (k *Keeper) End(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.detached {
		return
	}
	k.detached = true
	k.hangUp()
	k.closeAll()
	if err := k.end(ctx); err != nil {
		k.log.Warn("the holder of the listening sockets does not end", "err", err)
	}
}

// end tells the holder to end, if there is one. The caller holds mu.
func (k *Keeper) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if k.dial(ctx) != nil {
		return nil // nobody holds anything
	}
	defer k.hangUp()
	_ = k.conn.SetWriteDeadline(time.Now().Add(hearWithin))
	if err := packet.Send(k.conn, request{Do: doEnd}); err != nil {
		return err
	}
	if err := awaitEnd(ctx, k.conn); !errors.Is(err, packet.ErrGone) {
		return err
	}
	return nil
}

func (k *Keeper) closeAll() {
	for _, f := range k.sockets {
		_ = f.Close() // a duplicate
	}
	clear(k.sockets)
}
