package etcdstate

import (
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestKeysAreParsedAsMade(t *testing.T) {
	k := projectKeys("shop")
	tests := map[string]place{
		k.config():            {kind: kindConfig},
		k.adopted():           {kind: kindAdopted},
		k.identity():          {kind: kindIdentity},
		k.state("web"):        {kind: kindState, component: "web"},
		k.rollout("web"):      {kind: kindRollout, component: "web"},
		k.turn("web", 12):     {kind: kindTurn, component: "web", slot: 12},
		k.host("web", "h.1"):  {kind: kindHost, component: "web", host: "h.1"},
		k.machine("h.1"):      {kind: kindMachine, host: "h.1"},
		k.drain("h.1"):        {kind: kindDrain, host: "h.1"},
		k.turns("web") + "01": {},
		k.turns("web") + "-1": {},
		k.turns("web"):        {},
		k.host("web", ""):     {},
		k.component("web"):    {},
		k.component(""):       {},
		"/gantryd/projects/shopping/components/web/state": {},
	}
	for key, want := range tests {
		if got := k.parse(key); got != want {
			t.Errorf("parse(%q) = %+v, want %+v", key, got, want)
		}
	}
}

// TestFatalErrorsEndNothing uses the logger where etcd would end the process.
func TestFatalErrorsEndNothing(t *testing.T) {
	for name, fatal := range map[string]func(*testing.T, func()){
		"fatal": func(t *testing.T, failed func()) {
			t.Helper()
			bridge(slog.New(slog.DiscardHandler), failed, new(atomic.Bool)).Fatal("disk full")
		},
		"panic": func(t *testing.T, failed func()) {
			t.Helper()
			bridge(slog.New(slog.DiscardHandler), failed, new(atomic.Bool)).Panic("cannot happen")
		},
	} {
		ended, failed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			fatal(t, func() { close(failed) })
			t.Errorf("%s returned", name)
		}()
		<-ended
		<-failed
	}
}

func TestCloneSharesNothing(t *testing.T) {
	bake := component.Duration(time.Second)
	was := component.Spec{
		Name: "web", Command: []string{"a"}, Labels: map[string]string{"k": "v"}, Ports: []component.Port{{External: 1}},
		ReadyChecks: []component.Check{{Headers: map[string]string{"h": "1"}, ExpectStatus: []int{200}}},
		Rollout:     component.RolloutPolicy{Bake: &bake},
	}
	b, _ := json.Marshal(was)
	got := clone(was)
	if !reflect.DeepEqual(got, was) {
		t.Fatalf("clone = %+v, want %+v", got, was)
	}
	got.Command[0], got.Labels["k"], got.Ports[0].External, *got.Rollout.Bake = "b", "w", 2, 5
	got.ReadyChecks[0].Headers["h"], got.ReadyChecks[0].ExpectStatus[0] = "2", 404
	if after, _ := json.Marshal(was); string(after) != string(b) {
		t.Errorf("after a change of the clone: %s, before: %s", after, b)
	}
}

// TestLateNewsIsRecognised applies events, own writes and lists in the wrong order.
func TestLateNewsIsRecognised(t *testing.T) {
	k := projectKeys("p")
	kv := func(key, value string, rev int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev, CreateRevision: rev}
	}
	list := func(rev int64, kvs ...*mvccpb.KeyValue) *clientv3.GetResponse {
		kvs = append(kvs, kv(k.identity(), "x", 1))
		return (*clientv3.GetResponse)(&etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 7, Revision: rev}, Kvs: kvs})
	}
	turnKey, state := k.turn("web", 0), k.state("web")
	c := newCache(k)
	c.list(list(10, kv(state, `{"status":"ready"}`, 5)))
	changed := changes{}
	c.applyWrites([]write{put(turnKey, `{"host":"h"}`, 1)}, 12, changed) // own write, seen before revision 11
	c.list(list(11, kv(state, `{"status":"ready"}`, 5)))
	if len(c.view("web").Turn.Holders) != 1 {
		t.Fatal("a list from before it removed an own write")
	}
	c.applyWrites([]write{remove(turnKey)}, 14, changed)
	late := clientv3.WatchResponse{Events: []*clientv3.Event{
		{Type: clientv3.EventTypePut, Kv: kv(turnKey, `{"host":"h"}`, 12)},
		{Type: clientv3.EventTypePut, Kv: kv(state, `{"status":"stopped"}`, 13)},
		{Type: clientv3.EventTypeDelete, Kv: kv(turnKey, "", 14)},
	}}
	news, ok := c.events(late)
	if v := c.view("web"); !ok || len(v.Turn.Holders) != 0 || v.Desired.Generation != 13 {
		t.Errorf("view after late events = %+v", v)
	}
	if _, told := news["web"]; !told {
		t.Errorf("changes = %v, want web", news)
	}
	if news, _ := c.events(late); len(news) != 0 {
		t.Errorf("the same events again changed %v", news)
	}
	if c.list(list(14, kv(state, `{"status":"stopped"}`, 13))); len(c.gone) != 0 {
		t.Errorf("%d deletions are remembered for ever", len(c.gone))
	}
	changed = c.list(list(9)) // older data
	if !changed[""] || c.view("web").Desired.Generation != 0 || c.revision != 9 {
		t.Errorf("after older data: changes %v, revision %d", changed, c.revision)
	}
}

func FuzzCache(f *testing.F) {
	k := projectKeys("p")
	for _, key := range []string{k.config(), k.state("web"), k.rollout("web"), k.turn("web", 0), k.host("web", "h"), k.machine("h"), k.adopted()} {
		f.Add(key, []byte(`{"status":"ready","components":[{"name":"web","drain":{"timeout":"1s"}},{"name":1}],"generation":1,"host":"h"}`), int64(3), true)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte, rev int64, drop bool) {
		c := newCache(k)
		changed := changes{}
		c.put(&mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: rev}, changed)
		for _, name := range append(c.names(), "web") {
			v := c.view(name)
			if v.DesiredErr != nil && (!reflect.DeepEqual(v.Desired, component.Desired{})) {
				t.Errorf("Desired = %+v beside an error", v.Desired)
			}
		}
		_ = c.project(component.Cluster{})
		if drop {
			c.remove(key, rev, changed)
			if len(c.known) != 0 || len(c.components) != 0 || len(c.machines.m) != 0 || len(c.problems) != 0 || len(c.names()) != 0 {
				t.Errorf("after the key was deleted: %+v", c)
			}
		}
	})
}

func FuzzMergeDesired(f *testing.F) {
	f.Add([]byte(`{"status":"ready","new":{"a":1},"imageid":"x"}`), false)
	f.Add([]byte(`[1]`), true)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, raw []byte, ready bool) {
		d := component.Desired{Status: component.StatusStopped, Operation: "op"}
		if ready {
			d.Status = component.StatusReady
		}
		text, err := mergeDesired("k", raw, d)
		if err != nil {
			return // too long
		}
		var was, now map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &now); err != nil {
			t.Fatalf("merge wrote %q: %v", text, err)
		}
		if operation([]byte(text)) != "op" {
			t.Errorf("merge lost the operation: %q", text)
		}
		if json.Unmarshal(raw, &was) != nil {
			return
		}
		for name := range was {
			_, kept := now[name]
			ours := slices.Contains([]string{"status", "imageid", "image", "spec", "restart", "operation", "by", "at", "reason"}, name)
			if !kept && !ours {
				t.Errorf("merge lost %q of %q", name, raw)
			}
		}
	})
}

// As long as it is not known whether the lease still is, the turn that hung on it is not given out again: the
// supervisor would ask for it without end.
func TestTurnOfADoubtfulLeaseIsNotTakenAgain(t *testing.T) {
	k := projectKeys("p")
	s := &Store{keys: k, host: "h1", cache: newCache(k)}
	s.cache.put(&mvccpb.KeyValue{Key: []byte(k.state("web")), Value: []byte(`{"status":"ready"}`), ModRevision: 5}, changes{})
	s.cache.put(&mvccpb.KeyValue{Key: []byte(k.turn("web", 0)), Value: []byte(`{"host":"h1","generation":5}`), ModRevision: 6, Lease: 7}, changes{})
	at := component.View{Desired: component.Desired{Generation: 5}}
	s.lease = lease{id: 7, registered: true, until: time.Now().Add(time.Minute)}
	if f, err := s.lookForTurn("web", 1, at, 0); err != nil || !f.taken {
		t.Errorf("with a lease: taken = %v, %v; want the turn it has", f.taken, err)
	}
	s.lease.until = time.Now().Add(-time.Millisecond)
	if f, err := s.lookForTurn("web", 1, at, 0); !errors.Is(err, component.ErrUnreachable) {
		t.Errorf("with a lease that may be over: taken = %v, %v; want ErrUnreachable", f.taken, err)
	}
}
