package certs

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/smallfile"
)

// maxFile bounds a certificate with its chain, and a key.
const maxFile = 1 << 20

// patience is how many polls in a row a pair must be broken to be spoken of: who replaces two files
// does it one after the other.
const patience = 3

// When to speak of a certificate that will expire.
const (
	expiresSoon = 14 * 24 * time.Hour
	remindAfter = 24 * time.Hour
)

// A Source has a certificate for a client that says hello. A *Choice is one.
type Source interface {
	Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Config is the TLS of a server with certificates from src: TLS 1.2 and newer, HTTP/2 or HTTP/1.1. Its
// session ticket keys are changed by crypto/tls, so it must be kept as long as the server.
func Config(src Source) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: src.Certificate,
	}
}

// A Pair is where a certificate, with its chain, and its key are: PEM files.
type Pair struct{ Cert, Key string }

// A Store keeps the pairs that are in use, each once. Make one with NewStore.
type Store struct {
	log     *slog.Logger
	changes atomic.Uint64 // of all pairs together

	reading sync.Mutex // held while the files of entries in pairs are read
	mu      sync.Mutex // never held for long
	pairs   map[Pair]*entry
}

// NewStore returns a store that uses no files yet.
func NewStore(log *slog.Logger) *Store { return &Store{log: log, pairs: map[Pair]*entry{}} }

// An entry is one pair of files.
type entry struct {
	loaded atomic.Pointer[tls.Certificate] // never nil once it is in a store

	users int // guarded by Store.mu

	// Guarded by Store.reading.
	cert, key         *smallfile.File
	certText, keyText []byte // what loaded was made from
	failures          int    // polls in a row
	said              string // the failure that was logged last
	reminded          time.Time
}

// Use reads the pairs, in the order of their precedence, unless another Choice uses them already: then
// it reads nothing and does not wait. It fails, and names the file, when one of them does not work. Every
// Choice must be released.
func (s *Store) Use(pairs []Pair) (*Choice, error) {
	if len(pairs) == 0 {
		return nil, errors.New("no certificates")
	}
	read := map[Pair]*entry{}
	for {
		c, missing := s.take(pairs, read)
		if c != nil {
			return c, nil
		}
		e := &entry{cert: smallfile.New(missing.Cert, maxFile), key: smallfile.New(missing.Key, maxFile)}
		if _, err := e.load(); err != nil {
			return nil, err
		}
		read[missing] = e
	}
}

// take makes a Choice of pairs that are in use or were read. Without it, one of them is missing.
func (s *Store) take(pairs []Pair, read map[Pair]*entry) (c *Choice, missing Pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c = &Choice{store: s}
	for _, p := range pairs {
		if slices.Contains(c.pairs, p) {
			continue
		}
		e := cmp.Or(s.pairs[p], read[p])
		if e == nil {
			s.release(c)
			return nil, p
		}
		s.pairs[p] = e
		e.users++
		c.pairs, c.entries = append(c.pairs, p), append(c.entries, e)
	}
	c.index.Store(c.build())
	return c, Pair{}
}

// release gives back what c uses. The store is locked.
func (s *Store) release(c *Choice) {
	for i, p := range c.pairs {
		if c.entries[i].users--; c.entries[i].users == 0 {
			delete(s.pairs, p)
		}
	}
	c.pairs = nil
}

// Poll reads the pairs whose files changed, and speaks of those that expire soon. It is meant to be
// called about once a second, with the time of day.
func (s *Store) Poll(now time.Time) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	pairs := maps.Clone(s.pairs)
	s.mu.Unlock()
	for p, e := range pairs {
		if e.failures > 0 || e.cert.Changed() || e.key.Changed() {
			s.reload(p, e)
		}
		s.remind(p, e, now)
	}
}

func (s *Store) reload(p Pair, e *entry) {
	changed, err := e.load()
	if err != nil {
		if e.failures++; e.failures >= patience && err.Error() != e.said {
			e.said = err.Error()
			s.log.Warn("new certificate does not work, the old one stays", "err", err)
		}
		return
	}
	e.failures, e.said = 0, ""
	if !changed {
		return
	}
	e.reminded = time.Time{}
	s.changes.Add(1)
	leaf := e.loaded.Load().Leaf
	s.log.Info("certificate reloaded", "file", p.Cert, "names", leaf.DNSNames, "expires", leaf.NotAfter)
}

// remind says once a day that a certificate expires soon, or has.
func (s *Store) remind(p Pair, e *entry, now time.Time) {
	left := e.loaded.Load().Leaf.NotAfter.Sub(now)
	if left > expiresSoon || now.Sub(e.reminded) < remindAfter {
		return
	}
	e.reminded = now
	leaf := e.loaded.Load().Leaf
	log := s.log.With("file", p.Cert, "names", leaf.DNSNames, "expires", leaf.NotAfter)
	if left <= 0 {
		log.Warn("certificate has expired")
		return
	}
	log.Warn("certificate expires soon")
}

// load reads both files and reports whether they are another pair than before.
func (e *entry) load() (changed bool, err error) {
	cert, err := e.cert.Read()
	if err != nil {
		return false, fmt.Errorf("load certificate: %w", err)
	}
	key, err := e.key.Read()
	if err != nil {
		return false, fmt.Errorf("load key of certificate %q: %w", e.cert.Path(), err)
	}
	if bytes.Equal(cert, e.certText) && bytes.Equal(key, e.keyText) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("load certificate %q with key %q: %w", e.cert.Path(), e.key.Path(), err)
	}
	e.certText, e.keyText = cert, key
	e.loaded.Store(&pair)
	return true, nil
}
