package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// blocked is a data directory in which no control socket can be made, until it is freed.
func blocked(t *testing.T) (dir string, free func()) {
	t.Helper()
	dir = t.TempDir()
	in := filepath.Join(dir, control.Name+".new")
	if err := os.MkdirAll(filepath.Join(in, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(t.TempDir(), "away")
	return dir, func() { // in one step: the socket is tried meanwhile
		if err := os.Rename(in, away); err != nil {
			t.Error(err)
		}
	}
}

// TestSocketForCommandsIsTriedAgain: a process that took over has no way back, whatever is in the way of its socket.
func TestSocketForCommandsIsTriedAgain(t *testing.T) {
	dir, free := blocked(t)
	lock, err := localstate.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }()
	var log syncLog
	d := &Daemon{o: Options{DataDir: dir, Past: &handover.Past{}, Log: slog.New(slog.NewTextHandler(&log, nil))}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.command(ctx) })
	defer wg.Wait()
	defer cancel()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "no socket for commands yet"); {
		if time.Now().After(end) {
			t.Fatalf("it does not say that there is none: %s", log.String())
		}
	}
	free()
	err = control.Call(t.Context(), dir, control.Request{Command: "dance"}, nil)
	if _, ok := errors.AsType[*control.FailedError](err); !ok {
		t.Errorf("a command when the way is free = %v, want the daemon's answer", err)
	}
}

func TestFirstProcessNeedsItsSocketForCommands(t *testing.T) {
	dir, _ := blocked(t)
	d := &Daemon{o: Options{DataDir: dir, Log: slog.New(slog.DiscardHandler)}}
	if _, err := d.Listen(t.Context(), control.Name); err == nil {
		t.Error("Listen = nil where no socket can be made")
	}
}

// TestCommandsWaitInTheSocketThatIsHandedOver: between the processes nobody finds a closed door.
func TestCommandsWaitInTheSocketThatIsHandedOver(t *testing.T) {
	dir := t.TempDir()
	old := &Daemon{o: Options{DataDir: dir, Log: slog.New(slog.DiscardHandler)}}
	if _, err := old.Listen(t.Context(), control.Name); err != nil {
		t.Fatal(err)
	}
	names, files := old.socketFiles()
	if err := old.closeSockets(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // nobody accepts at the moment
		var got int
		if err := control.Call(t.Context(), dir, control.Request{Command: "echo", Args: []byte("7")}, &got); err != nil || got != 7 {
			t.Errorf("a command between two processes: %d, %v", got, err)
		}
	})
	heir := &Daemon{o: Options{DataDir: dir, Past: &handover.Past{}, Log: slog.New(slog.DiscardHandler)}}
	heir.inheritSockets(names, files)
	l, err := heir.Listen(t.Context(), control.Name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan struct{})
	wg.Go(func() {
		<-answered
		cancel()
	})
	echo := func(_ context.Context, args json.RawMessage) (any, error) { close(answered); return args, nil }
	if err := control.Serve(ctx, l, map[string]control.Handler{"echo": echo}, heir.o.Log); err != nil {
		t.Error(err)
	}
}

// A syncLog may be written to and read at once.
type syncLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
