package proxy

import (
	"maps"
	"slices"
)

// commit makes the plan true: in one step for all sessions, and then it closes what is gone.
func (pl *plan) commit() {
	var a aftermath
	p, l := pl.p, pl.p.ledger
	l.mu.Lock()
	unused := pl.takeSockets()
	pl.takeFronts(&a)
	for _, s := range slices.Concat(pl.specs, pl.follow) {
		pl.fronts[s.Name].set(s, &a)
	}
	l.finish(&a)

	for _, s := range pl.closed {
		s.close()
		p.log.Debug("listener closed", "addr", s.addr.String())
	}
	for _, w := range unused {
		w.stop()
	}
	p.watch()
	for _, s := range pl.opened {
		p.log.Debug("listener opened", "addr", s.addr.String(), "name", s.binds[0].front.name)
	}
	p.house() // they came before those who are accepted now
	for _, sh := range pl.shares {
		sh.socket.admit()
	}
}

// watch begins to look at files, once there are any. It needs Proxy.applying.
func (p *Proxy) watch() {
	if p.watching {
		return
	}
	for _, f := range p.fronts {
		if m := f.manners.Load(); m != nil && (m.choice != nil || m.pages.Dir() != "") {
			p.watching = true
			p.wg.Go(p.watchFiles)
			return
		}
	}
}

// takeSockets gives each socket to those who will have a part of it, and returns the webs that are
// not needed any more. The ledger is locked.
func (pl *plan) takeSockets() (unused []*web) {
	p := pl.p
	for key, sh := range pl.shares {
		p.sockets[key] = sh.socket
	}
	for _, s := range pl.closed {
		unused = append(unused, pl.give(s, nil)...)
	}
	for key, s := range p.sockets {
		var binds []bind
		for _, b := range s.binds {
			if b.front.owner != pl.owner {
				binds = append(binds, b)
			}
		}
		if sh := pl.shares[key]; sh != nil {
			binds = append(binds, sh.binds...)
		}
		if len(binds) == 0 {
			delete(p.sockets, key)
			pl.closed = append(pl.closed, s)
		}
		unused = append(unused, pl.give(s, binds)...)
	}
	return unused
}

// give makes binds those who have a part of s.
func (pl *plan) give(s *socket, binds []bind) (unused []*web) {
	if s.is(binds) {
		return nil
	}
	for _, was := range s.binds {
		if heir := pl.heirOf(was, binds); heir != nil {
			pl.heirs[was.front] = heir
		}
	}
	if w := s.share(binds); w != nil {
		unused = append(unused, w)
	}
	return unused
}

// heirOf is who gets from now on what was was's: whoever matches the same, or the only one of the owner. Of HTTP
// the same only: requests find their way again by themselves, see exchange.hasMoved.
func (pl *plan) heirOf(was bind, binds []bind) *front {
	var ours []bind
	for _, b := range binds {
		if b.front.owner != pl.owner || was.front.owner != pl.owner {
			continue
		}
		if b.match.equal(was.match) {
			return b.front
		}
		ours = append(ours, b)
	}
	if len(ours) == 1 && was.kind != HTTP {
		return ours[0].front
	}
	return nil
}

// takeFronts puts the listeners in place, and ends the routes of those that are gone. The ledger is locked.
func (pl *plan) takeFronts(a *aftermath) {
	p := pl.p
	var gone []string
	for name, f := range p.fronts {
		if f.owner != pl.owner || pl.fronts[name] == f {
			continue
		}
		delete(p.fronts, name)
		gone = append(gone, name)
		f.manners.Load().release()
		var heir *route
		if h := pl.heirs[f]; h != nil && h != f {
			heir = &h.route
			heir.holdMax = max(heir.holdMax, f.route.holdMax)
		}
		p.ledger.shut(&f.route, heir, a)
	}
	maps.Copy(p.fronts, pl.fronts)
	for _, name := range gone {
		if p.fronts[name] == nil {
			p.forgetQuota(name)
		}
	}
}
