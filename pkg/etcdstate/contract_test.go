package etcdstate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/storetest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

var _ supervisor.Store = (*etcdstate.Store)(nil)

// operator is a storetest.Operator on a Client.
type operator struct {
	client  *etcdstate.Client
	project string
}

func (o operator) PutProject(ctx context.Context, p component.Project) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return o.client.PutConfig(ctx, o.project, b)
}

func (o operator) SetDesired(ctx context.Context, name string, d component.Desired) (int64, error) {
	return o.client.SetDesired(ctx, o.project, name, d)
}

func TestContract(t *testing.T) {
	member := etcdtest.Start(t)
	var n atomic.Int32
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		project := fmt.Sprintf("p%d", n.Add(1)) // one server for all cases, a project for each
		f := storetest.Fixture{Operator: operator{dial(t, etcdstate.Config{Endpoints: []string{member.Endpoint()}}), project}}
		for _, host := range []string{"h1", "h2"} {
			c := dial(t, etcdstate.Config{Endpoints: []string{member.Endpoint()}})
			f.Hosts = append(f.Hosts, storetest.Host{Name: host, Store: newStore(t, c, etcdstate.StoreOptions{Project: project, Host: host})})
		}
		return f
	})
}

func dial(tb testing.TB, cfg etcdstate.Config) *etcdstate.Client {
	tb.Helper()
	if cfg.CommandTimeout == 0 {
		cfg.CommandTimeout = unhurried
	}
	c, err := etcdstate.Dial(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func newStore(tb testing.TB, c *etcdstate.Client, o etcdstate.StoreOptions) *etcdstate.Store {
	tb.Helper()
	if o.TTL == 0 {
		o.TTL = lasting
	}
	s, err := etcdstate.NewStore(c, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
