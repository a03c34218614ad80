package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// An ApplyError lists the listeners that are not as they were asked for. The others are.
type ApplyError struct {
	Failed []ListenError
}

// Error is all causes in one line.
func (e *ApplyError) Error() string {
	texts := make([]string, len(e.Failed))
	for i := range e.Failed {
		texts[i] = e.Failed[i].Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the causes, for errors.Is and errors.As.
func (e *ApplyError) Unwrap() []error {
	causes := make([]error, len(e.Failed))
	for i := range e.Failed {
		causes[i] = &e.Failed[i]
	}
	return causes
}

// A ListenError is why one listener, or one of its addresses, is not as it was asked for.
type ListenError struct {
	Listener string
	Addr     string // empty when it is not about one address
	Err      error
}

// Error names the listener, the address and the cause.
func (e *ListenError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("open listener %q: %v", e.Listener, e.Err)
	}
	return fmt.Sprintf("open listener %q on %s: %v", e.Listener, e.Addr, e.Err)
}

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// ErrTaken is the cause when another listener has the name or the address; the text says which.
var ErrTaken = errors.New("taken")

// spec is a Listener that was found to be correct.
type spec struct {
	Listener
	addrs   []netip.AddrPort
	target  netip.AddrPort // valid only with a TargetID
	manners *manners       // nil unless it is of HTTP
}

// Apply makes the listeners of owner exactly ls: it opens, switches and closes what differs, and
// costs next to nothing when nothing does. All switches of one call are one step. A listener that
// stays, or an address that moves to another listener of the owner, keeps its socket: no client is
// refused. A listener that is not as it was asked for is in the error, which is an *ApplyError, and
// stays what it was before; the others work. If only files of it do not work, it goes to its new target
// all the same. Calling again tries again.
func (p *Proxy) Apply(owner string, ls []Listener) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	if p.closed {
		return ErrClosed
	}
	was, ok := p.applied[owner]
	if ok && !was.failed && slices.EqualFunc(was.listeners, ls, Listener.equal) {
		return nil
	}
	if len(ls) == 0 && !ok {
		return nil
	}
	err := p.replace(owner, ls)
	if len(ls) == 0 {
		delete(p.applied, owner)
		return err
	}
	p.applied[owner] = statement{listeners: clone(ls), failed: err != nil}
	return err
}

func (l Listener) equal(m Listener) bool {
	return l.Name == m.Name && l.Kind == m.Kind && l.Match.equal(m.Match) && l.HoldMax == m.HoldMax && l.HoldTimeout == m.HoldTimeout && l.ConnectTimeout == m.ConnectTimeout &&
		l.TargetID == m.TargetID && l.Target == m.Target && slices.Equal(l.Addrs, m.Addrs) && l.equalTCP(&m) && l.equalHTTP(&m)
}

func clone(ls []Listener) []Listener {
	ls = slices.Clone(ls)
	for i := range ls {
		ls[i].Addrs = slices.Clone(ls[i].Addrs)
		ls[i].ProxyFrom = slices.Clone(ls[i].ProxyFrom)
		ls[i].Match.SNI = slices.Clone(ls[i].Match.SNI)
		ls[i].Match.Hosts = slices.Clone(ls[i].Match.Hosts)
		ls[i].TLS = ls[i].TLS.clone()
		ls[i].Trusted = slices.Clone(ls[i].Trusted)
	}
	return ls
}

// replace does the work of Apply.
func (p *Proxy) replace(owner string, ls []Listener) error {
	pl := &plan{
		p: p, owner: owner,
		fronts: map[string]*front{}, shares: map[string]*share{}, heirs: map[*front]*front{},
	}
	for _, l := range ls {
		pl.want(l)
	}
	pl.open()
	pl.commit()
	if len(pl.failed) > 0 {
		return &ApplyError{Failed: pl.failed}
	}
	return nil
}

// A plan is one Apply: what will be there, collected before anything changes.
type plan struct {
	p      *Proxy
	owner  string
	specs  []spec
	follow []spec            // of those that stay as they are but for their target
	fronts map[string]*front // that will be there, by name
	shares map[string]*share // what the owner will have of sockets, by their key
	opened []*socket         // the new ones
	closed []*socket         // those that nobody has a part of any more
	heirs  map[*front]*front // who took over from whom
	failed []ListenError
}

// A share is what an owner will have of one socket.
type share struct {
	addr   netip.AddrPort
	socket *socket // nil as long as it is not open
	binds  []bind
}

func (pl *plan) fail(name, addr string, err error) {
	pl.failed = append(pl.failed, ListenError{Listener: name, Addr: addr, Err: err})
}

// want adds l to the plan, or what is there under its name when l is not correct.
func (pl *plan) want(l Listener) {
	p := pl.p
	is := p.fronts[l.Name]
	switch {
	case is != nil && is.owner != pl.owner:
		pl.fail(l.Name, "", fmt.Errorf("name is %w by %q", ErrTaken, is.owner))
		return
	case pl.fronts[l.Name] != nil:
		pl.fail(l.Name, "", fmt.Errorf("name is %w by another listener of %q", ErrTaken, pl.owner))
		return
	}
	s, err := check(l)
	checked := err == nil
	if checked && l.Kind == HTTP {
		s.manners, err = p.newManners(&l, is)
	}
	if err != nil {
		pl.fail(l.Name, "", err)
		pl.keep(is)
		if checked && is != nil && is.spec.Kind == s.Kind {
			pl.follow = append(pl.follow, is.spec.at(s))
		}
		return
	}
	f := is
	if f == nil || f.spec.Kind != s.Kind {
		f = newFront(p, pl.owner, s)
	}
	pl.fronts[l.Name] = f
	pl.specs = append(pl.specs, s)
}

// at is s with the target of next. Whatever else is wrong about a listener, its old target may be gone.
func (s spec) at(next spec) spec {
	s.TargetID, s.Target, s.target, s.Upstream = next.TargetID, next.Target, next.target, next.Upstream
	return s
}

// keep leaves f as it is.
func (pl *plan) keep(f *front) {
	if f == nil {
		return
	}
	pl.fronts[f.name] = f
	for key, s := range pl.p.sockets {
		for _, b := range s.binds {
			if b.front == f {
				pl.add(key, s.addr, b)
			}
		}
	}
}

// add gives b a part of a socket.
func (pl *plan) add(key string, addr netip.AddrPort, b bind) {
	sh := pl.shares[key]
	if sh == nil {
		sh = &share{addr: addr, socket: pl.p.sockets[key]}
		pl.shares[key] = sh
	}
	sh.binds = append(sh.binds, b)
}

// check parses what a Listener says.
func check(l Listener) (spec, error) {
	s := spec{Listener: l}
	if l.Name == "" {
		return s, errors.New("it has no name")
	}
	if l.Kind != TCP && l.Kind != HTTP {
		return s, fmt.Errorf("kind %q is neither %q nor %q", l.Kind, TCP, HTTP)
	}
	err := cmp.Or(l.checkTCP(), l.checkHTTP())
	if err != nil {
		return s, err
	}
	if s.Match, err = l.Match.canonical(l.Kind); err != nil {
		return s, fmt.Errorf("match: %w", err)
	}
	for _, addr := range l.Addrs {
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			return s, fmt.Errorf("parse address: %w", err)
		}
		s.addrs = append(s.addrs, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	if l.TargetID == "" {
		return s, nil
	}
	t, err := netip.ParseAddrPort(l.Target)
	if err != nil {
		return s, fmt.Errorf("parse target: %w", err)
	}
	if t.Port() == 0 {
		return s, fmt.Errorf("target %q has no port", l.Target)
	}
	s.target = t
	return s, nil
}

// open finds or opens a socket for every address.
func (pl *plan) open() {
	for _, s := range pl.specs {
		for _, addr := range s.addrs {
			b := bind{front: pl.fronts[s.Name], kind: s.Kind, match: s.Match, tls: s.TLS.pairs(), from: s.ProxyFrom}
			if err := pl.find(b, addr); err != nil {
				pl.fail(s.Name, addr.String(), err)
			}
		}
	}
	for key, sh := range pl.shares { // now it is known which sockets nobody wants any more
		if sh.socket == nil {
			pl.listen(key, sh)
		}
	}
}

// find plans a part of the socket of addr for b. The one that is there is taken, if there is one.
func (pl *plan) find(b bind, addr netip.AddrPort) error {
	if other := pl.p.holder(addr, pl.owner); other != nil {
		return taken(other, "")
	}
	key, s := pl.p.boundTo(b.front.name, addr)
	if err := pl.fits(b, key, s); err != nil {
		for _, was := range binds(s) { // it stays what it was
			if was.front == b.front && pl.fits(was, key, s) == nil {
				pl.add(key, addr, was)
			}
		}
		return err
	}
	pl.add(key, addr, b)
	return nil
}

// fits reports why b cannot share a socket with those that have or will have a part of it.
func (pl *plan) fits(b bind, key string, s *socket) error {
	var others []bind
	for _, o := range binds(s) {
		if o.front.owner != pl.owner {
			others = append(others, o)
		}
	}
	if sh := pl.shares[key]; sh != nil {
		others = append(others, sh.binds...)
	}
	for _, o := range others {
		if o.kind != b.kind {
			return taken(o.front, fmt.Sprintf(", whose kind is %q", o.kind))
		}
		if !slices.Equal(o.from, b.from) {
			return taken(o.front, ", which takes PROXY headers from others")
		}
		if (o.tls == nil) != (b.tls == nil) {
			return taken(o.front, ", and only one of the two speaks TLS")
		}
		if what := b.match.clash(o.match); what != "" {
			return taken(o.front, ", which matches "+what+" too")
		}
	}
	return nil
}

// taken is why an address cannot be had beside f.
func taken(f *front, why string) error {
	return fmt.Errorf("address is %w by listener %q of %q%s", ErrTaken, f.name, f.owner, why)
}

func binds(s *socket) []bind {
	if s == nil {
		return nil
	}
	return s.binds
}

// listen opens the socket of a share. What is in its way, and is ours and not wanted any more, goes first.
func (pl *plan) listen(key string, sh *share) {
	for k, old := range pl.p.sockets {
		if pl.shares[k] == nil && old.onlyOf(pl.owner) && overlap(old.addr, sh.addr) {
			pl.p.ledger.mu.Lock()
			delete(pl.p.sockets, k)
			pl.p.ledger.mu.Unlock()
			pl.closed = append(pl.closed, old)
			old.close()
		}
	}
	s, err := pl.p.listen(sh.addr)
	if err != nil {
		delete(pl.shares, key)
		for _, b := range sh.binds {
			pl.fail(b.front.name, sh.addr.String(), err)
		}
		return
	}
	sh.socket = s
	pl.opened = append(pl.opened, s)
}

// onlyOf reports whether nobody but owner has a part of s.
func (s *socket) onlyOf(owner string) bool {
	return !slices.ContainsFunc(s.binds, func(b bind) bool { return b.front.owner != owner })
}

// boundTo is the socket under the key of addr, or else the one whose port the kernel chose and that
// is bound to addr. Without one it returns the key to have it under.
func (p *Proxy) boundTo(name string, addr netip.AddrPort) (string, *socket) {
	key := socketKey(name, addr)
	if s := p.sockets[key]; s != nil {
		return key, s
	}
	for k, s := range p.sockets {
		if s.addr == addr {
			return k, s
		}
	}
	return key, nil
}

// socketKey tells sockets apart: by address, or by listener where the kernel chooses the port.
func socketKey(name string, addr netip.AddrPort) string {
	if addr.Port() == 0 {
		return name + "|" + addr.String()
	}
	return addr.String()
}

// holder is a listener of another owner on an address that cannot be open beside addr.
func (p *Proxy) holder(addr netip.AddrPort, owner string) *front {
	for _, s := range p.sockets {
		if s.addr == addr || !overlap(s.addr, addr) {
			continue
		}
		for _, b := range s.binds {
			if b.front.owner != owner {
				return b.front
			}
		}
	}
	return nil
}

func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Port() != 0 && a.Addr().Is4() == b.Addr().Is4() &&
		(a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}
