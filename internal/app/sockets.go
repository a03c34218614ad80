package app

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/gantryd/gantryd/internal/holder"
	"github.com/gantryd/gantryd/internal/sdnotify"
)

// NewKeeper returns what keeps the listening sockets of the daemon of dir while it is killed and started again:
// systemd, or else a process of its own, which argv starts.
//
// What an earlier run left is taken from wherever that was: where nobody accepts from them any more, ports would
// take clients that nobody serves. Without argv that is all, and nothing is kept.
func NewKeeper(dir string, argv []string, getenv func(string) string, log *slog.Logger) Keeper {
	h, s := holder.New(dir, argv, log), sdnotify.NewStore(getenv, log)
	switch {
	case len(argv) == 0:
		return &passing{before: h, store: s}
	case s != nil:
		return &inSystemd{Store: s, before: h}
	}
	return h
}

// inSystemd leaves the sockets in the store when the daemon ends: systemd gives them to the next one at a
// restart, and closes them when the service is stopped.
type inSystemd struct {
	*sdnotify.Store
	before *holder.Keeper // of a run without systemd
	over   atomic.Bool
}

// Kept implements Keeper.
func (s *inSystemd) Kept(ctx context.Context) []*os.File {
	return append(s.Store.Kept(ctx), s.before.Kept(ctx)...)
}

// Opened implements proxy.Keeper.
func (s *inSystemd) Opened(addr netip.AddrPort, f *os.File) {
	if s.over.Load() {
		_ = f.Close()
		return
	}
	s.Store.Opened(addr, f)
}

// Closed implements proxy.Keeper.
func (s *inSystemd) Closed(addr netip.AddrPort) (refuse bool) {
	if s.over.Load() {
		return false
	}
	s.Store.Closed(addr)
	return true
}

// Run implements Keeper.
func (s *inSystemd) Run(ctx context.Context) {
	s.before.End(ctx) // all it has is in the store by now
	s.Store.Run(ctx)
	s.over.Store(true) // what is closed from now on is closed because the daemon ends
}

// Detach implements Keeper.
func (s *inSystemd) Detach() {
	s.before.Detach()
	s.over.Store(true)
}

// End implements Keeper.
func (s *inSystemd) End(context.Context) { s.over.Store(true) }

// passing keeps nothing. It takes what an earlier run left, once the daemon serves.
type passing struct {
	before *holder.Keeper
	store  *sdnotify.Store // nil without systemd
	over   atomic.Bool
}

// Kept implements Keeper.
func (p *passing) Kept(ctx context.Context) []*os.File {
	files := p.before.Kept(ctx)
	if p.store != nil {
		files = append(files, p.store.Kept(ctx)...)
	}
	return files
}

// Opened implements proxy.Keeper.
func (*passing) Opened(_ netip.AddrPort, f *os.File) { _ = f.Close() }

// Closed implements proxy.Keeper.
func (p *passing) Closed(netip.AddrPort) (refuse bool) { return !p.over.Load() }

// Run implements Keeper.
func (p *passing) Run(ctx context.Context) {
	p.clear(ctx)
	<-ctx.Done()
}

// clear has nobody keep anything.
func (p *passing) clear(ctx context.Context) {
	p.before.End(ctx)
	if p.store != nil {
		p.store.Clear()
	}
}

// Detach implements Keeper.
func (p *passing) Detach() {
	p.over.Store(true)
	p.before.Detach()
}

// End implements Keeper.
func (p *passing) End(ctx context.Context) {
	if !p.over.Load() {
		p.clear(ctx)
	}
}
