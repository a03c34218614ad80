package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/certs"
)

// TLS says how an HTTP listener terminates TLS: 1.2 and newer, HTTP/2 and HTTP/1.1.
type TLS struct {
	// Certs are chosen from by the name that a client asks for; the first one is for all others. Listeners
	// that share an address share their certificates too.
	Certs []KeyPair
}

// A KeyPair is where a certificate, with its chain, and its key are. The files are read again when
// they change; as long as the new ones do not work, the old pair stays.
type KeyPair struct{ CertFile, KeyFile string }

func (t *TLS) equal(u *TLS) bool {
	if t == nil || u == nil {
		return t == u
	}
	return slices.Equal(t.Certs, u.Certs)
}

func (t *TLS) clone() *TLS {
	if t == nil {
		return nil
	}
	return &TLS{Certs: slices.Clone(t.Certs)}
}

// pairs is where the certificates are; nil for plain HTTP.
func (t *TLS) pairs() []certs.Pair {
	if t == nil {
		return nil
	}
	out := make([]certs.Pair, 0, len(t.Certs))
	for _, c := range t.Certs {
		out = append(out, certs.Pair{Cert: c.CertFile, Key: c.KeyFile})
	}
	return out
}

func (t *TLS) check() error {
	if t == nil {
		return nil
	}
	if len(t.Certs) == 0 {
		return errors.New("TLS without a certificate")
	}
	for _, c := range t.Certs {
		if c.CertFile == "" || c.KeyFile == "" {
			return fmt.Errorf("TLS with certificate %q and key %q: both files are needed", c.CertFile, c.KeyFile)
		}
	}
	return nil
}

// security is the TLS side of a web.
type security struct {
	secure bool // TLS is terminated here; constant, as config
	config *tls.Config
	certs  atomic.Pointer[certificates]

	muxing sync.Mutex
	muxer  *mux // nil until somebody speaks HTTP/2
	muted  bool // no other one will
}

// terminate makes the web one that speaks TLS. It is called before it serves.
func (w *security) terminate() {
	w.secure = true
	w.config = certs.Config(w)
}

// mux is what serves HTTP/2.
func (w *web) mux() *mux {
	w.muxing.Lock()
	defer w.muxing.Unlock()
	if w.muxer == nil {
		w.muxer = newMux(w)
		if w.muted {
			w.muxer.stop()
		}
	}
	return w.muxer
}

// stopMux lets clients that speak HTTP/2 go elsewhere.
func (w *web) stopMux() {
	w.muxing.Lock()
	defer w.muxing.Unlock()
	w.muted = true
	if w.muxer != nil {
		w.muxer.stop()
	}
}

// certificates are the certs.Source of a web: those of all listeners that share its address.
type certificates struct{ *certs.Choice }

// use gives the web the certificates of binds.
func (w *security) use(p *Proxy, binds []bind) {
	var pairs []certs.Pair
	for _, b := range binds {
		pairs = append(pairs, b.tls...)
	}
	// Each listener uses its own already, so this reads no file.
	c, err := p.certs.Use(pairs)
	if err != nil {
		p.log.Error("use certificates", "name", binds[0].front.name, "err", err) // cannot be: see above
		return
	}
	if old := w.certs.Swap(&certificates{c}); old != nil {
		old.Release()
	}
}

// Certificate implements certs.Source.
func (w *security) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := w.certs.Load()
	if c == nil {
		return nil, errors.New("no certificates")
	}
	return c.Certificate(hello)
}

// filesEvery is how often files are looked at for changes.
const filesEvery = time.Second

// watchFiles reads certificates and pages again when they change, until the proxy ends.
func (p *Proxy) watchFiles() {
	tick := time.NewTicker(p.files)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.within().Done():
			return
		}
		p.certs.Poll(time.Now())
		for _, s := range p.pageSets() {
			s.Poll(p.log)
		}
	}
}

// greet reads what comes before the first request of a client that was accepted, a PROXY header or a handshake or
// both, and serves it in the protocol they agreed on.
func (w *web) greet(tcp *net.TCPConn, from *caller, introduced bool) {
	conn, h2, err := w.welcome(tcp, from, introduced)
	if err != nil {
		w.proxy.log.Debug("greet client", "client", tcp.RemoteAddr().String(), "err", err)
		w.met(nil)
		from.leave()
		return
	}
	if h2 {
		w.met(nil)
		w.mux().take(conn, from)
		return
	}
	c := newConversation(w, conn, tcp, from)
	if !w.met(c) {
		_ = conn.Close()
		from.leave()
		return
	}
	c.run()
}

// welcome is what greet does before anything is served. After an error the connection is closed.
func (w *web) welcome(tcp *net.TCPConn, from *caller, introduced bool) (conn net.Conn, h2 bool, err error) {
	p := w.proxy
	if introduced {
		if err := from.introduce(p.within(), tcp); err != nil {
			refuse(tcp)
			return nil, false, err
		}
	}
	if !w.admits(from) {
		refuse(tcp)
		return nil, false, errFull
	}
	if !w.secure {
		return tcp, false, nil
	}
	secure := tls.Server(tcp, w.config)
	ctx, cancel := context.WithTimeout(p.within(), p.headers)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, false, fmt.Errorf("shake hands: %w", err)
	}
	return secure, secure.ConnectionState().NegotiatedProtocol == "h2", nil
}
