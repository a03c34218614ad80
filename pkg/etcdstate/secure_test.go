package etcdstate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	server, client := ca.issue(t, "server"), ca.issue(t, "client")
	m := etcdtest.StartWith(t, etcdstate.ServerOptions{
		ClientTLS: etcdstate.ServerTLS{Cert: server.cert, Key: server.key, CA: ca.cert},
		PeerTLS:   etcdstate.ServerTLS{Cert: server.cert, Key: server.key, CA: ca.cert},
	})
	good := etcdstate.Config{Endpoints: []string{m.Endpoint()}, CACert: ca.cert, Cert: client.cert, Key: client.key}
	h := run(t, "h1", newStore(t, dial(t, good), etcdstate.StoreOptions{Project: "p", Host: "h1"}))
	h.awaitReachable(t, true)
	g, err := dial(t, good).SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady})
	wantNil(t, "SetDesired", err)
	h.takeTurn(t, "web", g)

	stranger := newAuthority(t, t.TempDir())
	other := stranger.issue(t, "client")
	for name, change := range map[string]func(*etcdstate.Config){
		"plain text":          func(c *etcdstate.Config) { c.CACert, c.Cert, c.Key = "", "", "" },
		"no certificate":      func(c *etcdstate.Config) { c.Cert, c.Key = "", "" },
		"foreign certificate": func(c *etcdstate.Config) { c.Cert, c.Key = other.cert, other.key },
		"foreign authority":   func(c *etcdstate.Config) { c.CACert = stranger.cert },
		"no check, no client": func(c *etcdstate.Config) { c.CACert, c.Cert, c.Key, c.InsecureSkipVerify = "", "", "", true },
	} {
		cfg := good
		cfg.CommandTimeout = time.Second
		change(&cfg)
		_, err := dial(t, cfg).Project(t.Context(), "p")
		wantErr(t, "Project with "+name, err, component.ErrUnreachable)
	}
	skip := good
	skip.CACert, skip.InsecureSkipVerify = "", true
	_, err = dial(t, skip).Project(t.Context(), "p")
	wantNil(t, "Project without a check of the server", err)
	for _, cfg := range []etcdstate.Config{
		{CACert: filepath.Join(dir, "missing")},
		{Cert: client.cert, Key: filepath.Join(dir, "missing")},
		{Endpoints: []string{"http://127.0.0.1:1"}, CACert: ca.cert},
	} {
		if _, err := etcdstate.Dial(t.Context(), cfg); err == nil {
			t.Errorf("Dial(%+v) = nil", cfg)
		}
	}
}

// TestUserAndRole uses the roles that docs/etcd.md recommends. Passwords are checked as cheaply as can be: a
// check comes with each stream, of which a restart needs many, and the race detector makes one take seconds.
func TestUserAndRole(t *testing.T) {
	f := newFleetWith(t, etcdstate.ServerOptions{PasswordCost: 4})
	enableAuth(t, f.raw)
	as := func(user string) etcdstate.Config {
		return etcdstate.Config{
			Endpoints: []string{f.member.Endpoint()}, User: user, Password: user + "-secret",
			CommandTimeout: unhurried, DialTimeout: patience,
		}
	}
	operator := dial(t, as("operator"))
	h := run(t, "h1", newStore(t, dial(t, as("host")), etcdstate.StoreOptions{Project: "p", Host: "h1", Log: testLog(t)}))
	h.awaitReachable(t, true)
	g, err := operator.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady})
	wantNil(t, "SetDesired", err)
	h.takeTurn(t, "web", g)
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))
	wantNil(t, "EndTurn", h.EndTurn(t.Context(), "web", status("h1", g), &component.Rollout{Generation: g, Status: component.RolloutDone}))

	_, err = operator.Project(t.Context(), "q")
	wantErr(t, "Project of another project", err, rpctypes.ErrPermissionDenied)
	wrong := as("operator")
	wrong.Password = "guess"
	_, err = dial(t, wrong).Project(t.Context(), "p")
	wantErr(t, "Project with a wrong password", err, rpctypes.ErrAuthFailed)
	_, err = f.client.Project(t.Context(), "p")
	wantErr(t, "Project without a user", err, rpctypes.ErrUserEmpty)

	f.member.Stop() // tokens of users are in memory only
	h.awaitReachable(t, false)
	f.member.Start(t)
	h.awaitReachable(t, true)
	g, err = operator.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped})
	wantNil(t, "SetDesired after a restart", err)
	eventually(t, "generation after a restart", func() bool { return h.View("web").Desired.Generation == g })
	wantNil(t, "Publish after a restart", h.Publish(t.Context(), "web", status("h1", 2)))
	f.revokeAs(t, as("operator"), "h1")
	eventually(t, "registered again", func() bool { return h.Cluster().Reachable && h.View("web").Hosts["h1"].Generation == 2 })
}

// enableAuth makes the users root, operator and host, and turns authentication on.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	const all = "/gantryd/projects/p/"
	end := clientv3.GetPrefixRangeEnd(all)
	for _, user := range []string{"root", "operator", "host"} {
		_, err := c.RoleAdd(ctx, user)
		wantNil(t, "RoleAdd", err)
		_, err = c.UserAdd(ctx, user, user+"-secret")
		wantNil(t, "UserAdd", err)
		_, err = c.UserGrantRole(ctx, user, user)
		wantNil(t, "UserGrantRole", err)
	}
	grant := func(role, key, end string, p clientv3.PermissionType) {
		_, err := c.RoleGrantPermission(ctx, role, key, end, p)
		wantNil(t, "RoleGrantPermission", err)
	}
	grant("operator", all, end, clientv3.PermissionType(clientv3.PermReadWrite))
	grant("host", all, end, clientv3.PermissionType(clientv3.PermRead))
	for _, below := range []string{"machines/", "identity"} {
		grant("host", all+below, clientv3.GetPrefixRangeEnd(all+below), clientv3.PermissionType(clientv3.PermReadWrite))
	}
	for _, below := range []string{"hosts/", "turns/", "rollout"} { // for each component
		grant("host", key("web", below), clientv3.GetPrefixRangeEnd(key("web", below)), clientv3.PermissionType(clientv3.PermReadWrite))
	}
	_, err := c.AuthEnable(ctx)
	wantNil(t, "AuthEnable", err)
}

// revokeAs ends the lease of a host as a user.
func (f *fleet) revokeAs(t *testing.T, cfg etcdstate.Config, host string) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: cfg.Endpoints, Username: cfg.User, Password: cfg.Password, DialTimeout: patience})
	wantNil(t, "New", err)
	t.Cleanup(func() { _ = c.Close() })
	resp, err := c.Get(t.Context(), machineKey(host))
	wantNil(t, "Get", err)
	_, err = c.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease))
	wantNil(t, "Revoke", err)
}

// authority signs certificates; files are in dir.
type authority struct {
	dir, cert string
	key       *ecdsa.PrivateKey
	template  *x509.Certificate
}

type pair struct{ cert, key string }

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir, cert: filepath.Join(dir, "ca.pem"), template: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	wantNil(t, "GenerateKey", err)
	der, err := x509.CreateCertificate(rand.Reader, a.template, a.template, a.key.Public(), a.key)
	wantNil(t, "CreateCertificate", err)
	writePEM(t, a.cert, "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, name string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	wantNil(t, "GenerateKey", err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.template, key.Public(), a.key)
	wantNil(t, "CreateCertificate", err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	wantNil(t, "MarshalPKCS8PrivateKey", err)
	p := pair{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")}
	writePEM(t, p.cert, "CERTIFICATE", der)
	writePEM(t, p.key, "PRIVATE KEY", private)
	return p
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	wantNil(t, "WriteFile", os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
