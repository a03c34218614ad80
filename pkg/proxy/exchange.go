package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
	"github.com/gantryd/gantryd/pkg/proxy/internal/pages"
	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
)

// Why a request got no answer from a target.
var (
	errNoTarget = errors.New("no target")
	errCut      = errors.New("connection was cut")
	errGone     = errors.New("client is gone")
	errStale    = errors.New("kept connection was closed by the target")
)

// clientCheck is how often it is asked, at most, whether the client still waits for its answer.
const clientCheck = 2 * time.Second

// A patron is who asked: the client's side of an exchange, in its version of HTTP.
type patron interface {
	// gone reports whether nobody waits for the answer any more.
	gone() bool
	// interim passes on a head that is followed by another one.
	interim(res *h1.Response) error
	// begin takes the head of the answer. Nothing has to be sent before flush.
	begin(res *h1.Response) error
	// write takes a piece of content.
	write(p []byte) error
	// flush sends what was taken, because there is nothing more at the moment.
	flush() error
	// finish ends the answer.
	finish(trailers []h1.Field) error
	// interrupt makes what the patron waits for fail. It is called by another goroutine, with the ledger locked.
	interrupt()
	// stopReading makes the source fail. It is called while another goroutine reads there.
	stopReading()
	// upgrade gives the client to the target, as both agreed; res is the answer.
	upgrade(c *upconn)
	// protocol is the version of HTTP that the client speaks.
	protocol() string
	// scheme is what the client speaks: http or https.
	scheme() string
	// local is the address that the client connected to.
	local() netip.AddrPort
	// close takes no other request on the connection.
	close()
	// abandon breaks an answer that was begun off, so that it does not look whole.
	abandon()
}

// A source is where the content of a request comes from.
type source interface {
	// content returns the next piece, which is good until the next call, and io.EOF behind the last
	// one. Without wait it returns nothing where it would have to wait.
	content(wait bool) ([]byte, error)
	// trailers are the fields behind the content.
	trailers() []h1.Field
}

// An exchange is one request on its way to a target, and its answer on the way back. A conversation
// uses one for all of its requests.
type exchange struct {
	*tools
	web      *web
	patron   patron
	caller   *caller
	counted  *quota // of the listener that counted the caller last
	session  *session
	front    *front   // that the request is for
	manners  *manners // of front
	source   source   // nil: the request has no content
	try      attempts
	fresh    bool // no kept connection is good enough
	upload   upload
	gathered bool // content that was there is behind the head
	reading  bool // another goroutine may be reading the source
	answer   h1.Body
	loan     relay.Loan // of the upstream connection that was given back before its last bytes were passed on
	lent     bool
	status   int  // that the client was told; 0 for none yet
	handed   bool // it is a tunnel now
	record   record
	woken    chan struct{}
	refusal  error     // of an attempt to connect, if there was one
	sent     time.Time // when its target was chosen
	missed   *dest     // that could not be reached, which was counted

	continued bool        // the client was told to send its content
	begun     atomic.Bool // the answer
	over      atomic.Bool // nobody wants the rest of the content
	broken    atomic.Bool // the client did not send the content it announced

	wasCut   atomic.Bool
	mu       sync.Mutex
	conn     *upconn            // in use
	stopDial context.CancelFunc // while it is being made
}

func (x *exchange) init(w *web, p patron, from *caller) {
	x.web, x.patron, x.caller, x.session = w, p, from, &session{client: from.client}
	x.session.link = x
	x.woken = make(chan struct{}, 1)
}

// reset makes x ready for another request.
func (x *exchange) reset() {
	x.manners, x.gathered, x.refusal, x.missed = nil, false, nil, nil
	x.front, x.source, x.fresh, x.status, x.continued = nil, nil, false, 0, false
	x.begun.Store(false)
	x.broken.Store(false)
	x.over.Store(false)
	x.try = attempts{}
	x.upload = upload{}
	x.record = record{}
}

// Hold implements link.
func (x *exchange) Hold(time.Duration) {
	select {
	case <-x.woken: // of another time
	default:
	}
}

// Wake implements link.
func (x *exchange) Wake() {
	select {
	case x.woken <- struct{}{}:
	default:
	}
}

// Abort implements link. The dials of a destination end with it, see upstream.retire.
func (*exchange) Abort() {}

// Cut implements link. Whatever the exchange waits for fails.
func (x *exchange) Cut(bool) {
	x.wasCut.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopDial != nil {
		x.stopDial()
	}
	if x.conn != nil {
		_ = x.conn.tcp.SetDeadline(past())
	}
	x.patron.interrupt()
}

// serve answers the request in req. When it returns, the request belongs to no target, unless it
// became a tunnel.
func (x *exchange) serve() {
	x.noteRequest()
	front, refused := x.web.route(&x.req)
	for front != nil {
		x.front = front
		if !x.deliver() {
			break
		}
		front, refused = x.web.route(&x.req)
	}
	if front == nil {
		x.say(refused)
	}
	x.report()
}

// deliver has the request answered by its target. It returns true when the listener went away before
// there was one, and another listener has its place.
func (x *exchange) deliver() (again bool) {
	x.session.route = &x.front.route
	x.manners = x.front.manners.Load()
	if !x.enter() {
		x.patron.close()
		x.say(http.StatusServiceUnavailable)
		return false
	}
	if x.manners.maintenance {
		x.sayPage(pages.Maintenance)
		return false
	}
	x.writeHead()
	err := x.travel()
	if errors.Is(err, errNoTarget) && x.hasMoved() {
		x.web.proxy.ledger.renew(x.session)
		return true
	}
	if err != nil {
		x.fail(err)
	}
	x.closeConn()
	x.dropLoan()
	if x.handed {
		return false
	}
	x.web.proxy.ledger.renew(x.session)
	if x.wasCut.Load() {
		x.wasCut.Store(false)
		x.patron.close()
	}
	return false
}

// enter takes a place for the connection of the request at its listener, if it has none, and reports whether there was
// one.
func (x *exchange) enter() bool {
	if q := x.front.quota; x.counted != q {
		if !x.caller.enter(x.front) {
			return false
		}
		x.counted = q
	}
	return true
}

// hasMoved reports whether the request is for another listener now, and can still go there.
func (x *exchange) hasMoved() bool {
	if x.gathered || x.wasCut.Load() || x.web.proxy.within().Err() != nil {
		return false
	}
	front, _ := x.web.route(&x.req)
	return front != x.front
}

// travel brings the request to the target of this moment, and the answer back. As long as nothing of it
// was sent, or it may be sent twice, it may go to another one.
func (x *exchange) travel() error {
	for {
		up, err := x.place()
		if err != nil {
			return err
		}
		switch {
		case up.h2c != nil:
			err = x.visitH2C(up)
		case x.gathered:
			err = x.visit(up)
		default:
			if err = x.gatherBody(); err == nil {
				err = x.visit(up)
			}
		}
		if err == nil {
			up.reached()
			return nil
		}
		var dialing *dialError
		switch {
		case x.wasCut.Load():
			return errCut
		case errors.Is(err, errStale):
			x.fresh = true
		case !errors.As(err, &dialing):
			return err
		case errors.Is(err, errRetired): // it has a place elsewhere
		default:
			x.miss(err)
			if !x.pause() || x.patron.gone() {
				up.unreachable(x.front, err)
				return cmp.Or(x.refusal, err)
			}
			if !isTimeout(err) {
				x.refusal = err // says more than the end of the time, which may be what the next attempt meets
			}
		}
	}
}

// place waits until the request has a target.
func (x *exchange) place() (*upstream, error) {
	p := x.web.proxy
	for {
		d, stage := p.ledger.place(x.session)
		switch stage {
		case stageDialling:
			if x.record.dest != d {
				x.record.dest, x.sent = d, time.Now()
			}
			return d.up, nil
		case stageHeld:
			began := time.Now()
			err := x.wait()
			x.record.held += time.Since(began)
			if err != nil {
				return nil, err
			}
			x.try = attempts{}
		default:
			return nil, errNoTarget
		}
	}
}

// heldCheck is how often a held request looks whether its client is still there.
const heldCheck = 250 * time.Millisecond

// wait returns nil once a held request should look for its place again.
func (x *exchange) wait() error {
	l := x.web.proxy.ledger
	timer := time.NewTimer(l.holdTime(x.session))
	defer timer.Stop()
	tick := time.NewTicker(heldCheck)
	defer tick.Stop()
	end := x.web.proxy.within().Done()
	err := errNoTarget
	for {
		select {
		case <-x.woken:
			return nil
		case <-tick.C:
			if !x.patron.gone() {
				continue
			}
			err = errGone
		case <-timer.C:
		case <-end:
		}
		if !l.giveUp(x.session) {
			return nil
		}
		return err
	}
}

// pause waits after an attempt that could not be dialled.
func (x *exchange) pause() bool {
	ctx, cancel := context.WithDeadline(x.web.proxy.within(), x.try.deadline)
	defer cancel()
	if !x.setDial(cancel) {
		return false
	}
	defer x.setDial(nil)
	return x.try.pause(ctx)
}

// setDial notes how to end a dial. It returns false when the request was cut.
func (x *exchange) setDial(stop context.CancelFunc) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopDial = stop
	return !x.wasCut.Load()
}

// visit is one attempt. It returns errStale when the request may be sent again, and a dialError when
// nothing was sent.
func (x *exchange) visit(up *upstream) error {
	x.record.attempts++
	c, kept, err := x.connect(up)
	if err != nil {
		return err
	}
	n, err := c.tcp.Write(x.head)
	if err == nil {
		if x.source != nil && !x.upload.whole {
			x.startUpload(c)
		}
		err = x.hear(c)
	} else if n > 0 {
		x.upload.whole = false
		err = x.hearBefore(c, err)
	}
	if err == nil {
		return nil
	}
	again := kept && x.status == 0 && c.answered == 0 && (n == 0 || x.req.Idempotent()) && !errors.Is(err, errGone)
	x.closeConn()
	if again {
		return errStale
	}
	return err
}

// connect returns a connection to a target, a kept one if there is one that is good enough.
func (x *exchange) connect(up *upstream) (c *upconn, kept bool, err error) {
	if !x.fresh {
		c = up.get(!x.req.Idempotent(), time.Now())
	}
	if kept = c != nil; !kept {
		if c, err = x.dial(up); err != nil {
			return nil, false, err
		}
	}
	c.answered = 0
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn = c
	if x.wasCut.Load() {
		_ = c.tcp.SetDeadline(past())
	}
	return c, kept, nil
}

func (x *exchange) dial(up *upstream) (*upconn, error) {
	x.try.begin(up.within())
	ctx, cancel := context.WithDeadline(x.web.proxy.within(), x.try.deadline)
	defer cancel()
	if !x.setDial(cancel) {
		return nil, errCut
	}
	defer x.setDial(nil)
	return up.dial(ctx)
}

// letGo gives the connection back when it can take another request. What is in its buffer stays
// with the exchange until dropLoan.
func (x *exchange) letGo() {
	x.mu.Lock()
	c, cut := x.conn, x.wasCut.Load()
	x.conn = nil
	x.mu.Unlock()
	clean := len(c.bytes()) == 0 && x.answer.Done() && !x.res.Close && x.sentAll()
	x.loan, x.lent = c.detach()
	if clean && !cut {
		c.up.put(c, time.Now())
		return
	}
	x.abortUpload(c)
	c.close()
}

func (x *exchange) dropLoan() {
	if x.lent {
		x.web.proxy.buffers.GiveBack(x.loan)
		x.lent = false
	}
}

// closeConn closes the connection, if there is one.
func (x *exchange) closeConn() {
	x.mu.Lock()
	c := x.conn
	x.conn = nil
	x.mu.Unlock()
	if c != nil {
		x.abortUpload(c)
		c.close()
	}
}

// fail answers a request that got no answer, or breaks off the one it got.
func (x *exchange) fail(err error) {
	x.closeConn()
	var (
		bad     h1.Error
		timeout net.Error
	)
	uploadErr := x.upload.clientErr // the upload has ended
	if x.status == 0 && (uploadErr == nil || x.over.Load()) {
		x.noAnswer(err)
	}
	switch {
	case x.status != 0, errors.Is(uploadErr, io.ErrUnexpectedEOF):
		x.patron.abandon()
	case errors.As(uploadErr, &bad):
		x.say(bad.Status)
	case isTimeout(uploadErr):
		x.say(http.StatusRequestTimeout)
	case errors.Is(err, errGone):
		x.patron.abandon()
	case errors.Is(err, errNoTarget), errors.Is(err, errCut):
		x.say(http.StatusServiceUnavailable)
	case errors.As(err, &timeout) && timeout.Timeout():
		x.say(http.StatusGatewayTimeout)
	default:
		x.web.proxy.log.Debug("request got no answer", "name", x.front.name, "err", err)
		x.say(http.StatusBadGateway)
	}
}
