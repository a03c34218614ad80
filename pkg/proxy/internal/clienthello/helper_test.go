package clienthello

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A tape is a connection that notes what is written to it, and answers with what it was given.
type tape struct {
	net.Conn

	in  *bytes.Reader
	out bytes.Buffer
}

func (c *tape) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *tape) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *tape) Close() error                     { return nil }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }

// helloOf is what crypto/tls sends first with that configuration.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	c := &tape{in: bytes.NewReader(nil)}
	if err := tls.Client(c, config).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatalf("client: %v", err)
	}
	return c.out.Bytes()
}

// seenByServer is the server name that a crypto/tls server reads out of in; ok is false when it
// refuses in before it knows one.
func seenByServer(in []byte) (name string, ok bool) {
	stop := errors.New("seen enough")
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = info.ServerName, true
		return nil, stop
	}}
	_ = tls.Server(&tape{in: bytes.NewReader(in)}, config).Handshake()
	return name, ok
}

// withTicket is a configuration whose next hello offers to resume a session of that version.
func withTicket(t testing.TB, version uint16, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{
		ServerName: name, MinVersion: version, MaxVersion: version, InsecureSkipVerify: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a net.Pipe would lock: both sides write at once
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		there, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		s := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		if err := s.HandshakeContext(context.Background()); err != nil {
			t.Error(err)
		}
		_, _ = s.Write([]byte("x")) // behind the tickets
		_, _ = io.Copy(io.Discard, there)
	})
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(here, client)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = here.Close()
	wg.Wait()
	return client
}

// echConfigs is a list with one configuration for Encrypted ClientHello, of a server with that public name.
func echConfigs(t testing.TB, publicName string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := []byte{1, 0, 0x20}                                            // ID, DHKEM(X25519, HKDF-SHA256)
	contents = append(contents, vector16(string(key.PublicKey().Bytes()))...) //
	contents = append(contents, vector16("\x00\x01\x00\x01")...)              // HKDF-SHA256, AES-128-GCM
	contents = append(contents, 64)                                           // longest name
	contents = append(contents, vector8(publicName)...)                       //
	contents = append(contents, 0, 0)                                         // extensions
	return []byte(vector16("\xfe\x0d" + vector16(string(contents))))
}

// vector8 and vector16 are s with its length before it.
func vector8(s string) string { return string([]byte{byte(len(s))}) + s }

func vector16(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

// Handmade parts of a ClientHello.
const (
	anyRandom = "0123456789abcdef0123456789abcdef"
	noSession = "\x00"
	oneSuite  = "\x00\x02\x13\x01"
	noZip     = "\x01\x00"
)

// anyStart is all that comes before the extensions.
const anyStart = "\x03\x03" + anyRandom + noSession + oneSuite + noZip

func extension(kind int, body string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(kind))) + vector16(body)
}

// sni is an extension with these host names in its list.
func sni(names ...string) string {
	var list strings.Builder
	for _, name := range names {
		list.WriteString("\x00" + vector16(name))
	}
	return extension(extServerName, vector16(list.String()))
}

// message is a handshake message.
func message(kind byte, contents string) string {
	n := len(contents)
	return string([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}) + contents
}

// records spreads a message over records with at most size bytes each.
func records(size int, message string) []byte {
	var b []byte
	for len(message) > 0 {
		n := min(size, len(message))
		b = append(b, recordHandshake, 3, 1)
		b = append(b, vector16(message[:n])...)
		message = message[n:]
	}
	return b
}

// hello is a ClientHello with these extensions, in one record.
func hello(extensions ...string) []byte {
	return records(MaxLen, message(messageClientHello, anyStart+vector16(strings.Join(extensions, ""))))
}
