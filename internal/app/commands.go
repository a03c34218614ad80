package app

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/gantryd/gantryd/internal/control"
)

// listenAgainAfter is the pause until a socket for commands is tried again: that it cannot be made, on a full disk,
// must not end the connections that a process took over.
const listenAgainAfter = time.Second

// Listen returns the socket of that name in the data directory, on which commands are taken: that of the process
// before, in whose queue they wait, or a new one. It is closed with the daemon, and handed over to the next
// process. One that took over goes on without until it can be made, or ctx ends.
func (d *Daemon) Listen(ctx context.Context, name string) (*net.UnixListener, error) {
	if l := d.socket(name); l != nil {
		return l, nil
	}
	for said := false; ; said = true {
		l, err := control.Bind(ctx, "unix", d.o.DataDir, name)
		if err == nil {
			d.addSocket(name, l)
			return l, nil
		}
		if d.o.Past == nil {
			return nil, err
		}
		if !said {
			d.o.Log.Error("no socket for commands yet; what serves goes on, and SIGHUP upgrades this process", "err", err)
		}
		select {
		case <-time.After(listenAgainAfter):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// command answers commands until ctx ends.
func (d *Daemon) command(ctx context.Context) {
	l, err := d.Listen(ctx, control.Name)
	if err == nil {
		err = control.Serve(ctx, l, map[string]control.Handler{CommandUpgrade: d.upgradeCommand}, d.o.Log)
	}
	if err != nil && ctx.Err() == nil {
		d.o.Log.Error("control socket failed", "err", err)
	}
}

func (d *Daemon) socket(name string) *net.UnixListener {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sockets[name]
}

func (d *Daemon) addSocket(name string, l *net.UnixListener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sockets == nil {
		d.sockets = map[string]*net.UnixListener{}
	}
	d.sockets[name] = l
}

// closeSockets leaves their names, which may be another process's by now.
func (d *Daemon) closeSockets(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.sockets {
		_ = l.Close() // perhaps it is already
	}
	clear(d.sockets)
	return nil
}

// socketFiles are duplicates of the sockets for commands, with their names. The next process makes what is missing.
func (d *Daemon) socketFiles() (names []string, files []*os.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.sockets)) {
		f, err := d.sockets[name].File()
		if err != nil {
			d.o.Log.Warn("socket for commands is not handed over", "name", name, "err", err)
			continue
		}
		names, files = append(names, name), append(files, f)
	}
	return names, files
}

// inheritSockets takes files, which are the sockets of these names.
func (d *Daemon) inheritSockets(names []string, files []*os.File) {
	for i, f := range files {
		l, err := unixListener(f)
		if err != nil {
			d.o.Log.Warn("socket for commands is made anew", "name", names[i], "err", err)
			continue
		}
		d.addSocket(names[i], l)
	}
}

// unixListener makes f, which it closes, a listener.
func unixListener(f *os.File) (*net.UnixListener, error) {
	l, err := net.FileListener(f)
	_ = f.Close() // l is a duplicate
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close() // the error counts
		return nil, fmt.Errorf("it is of network %s", l.Addr().Network())
	}
	return u, nil
}
