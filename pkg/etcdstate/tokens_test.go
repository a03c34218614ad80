package etcdstate_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestTokens(t *testing.T) {
	m := etcdtest.Start(t)
	c := dial(t, etcdstate.Config{Endpoints: []string{m.Endpoint()}})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one := etcdstate.Token{ID: "one", Name: "ci", Hash: "aa", Role: "deployer", Projects: []string{"shop"}, At: at, Expires: at.Add(time.Hour)}
	two := etcdstate.Token{ID: "two", Name: "page", Hash: "bb", Role: "viewer", At: at.Add(time.Minute)}

	told := make(chan []etcdstate.Token, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.WatchTokens(ctx, func(all []etcdstate.Token) { told <- all }) }()
	next := func(want ...etcdstate.Token) {
		t.Helper()
		for limit := time.After(patience); ; {
			select {
			case got := <-told:
				if cmp.Equal(got, append([]etcdstate.Token(nil), want...)) {
					return
				}
			case <-limit:
				t.Fatalf("%v is not told", want)
			}
		}
	}
	next()
	for _, token := range []etcdstate.Token{two, one} {
		if err := c.CreateToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateToken(t.Context(), token); err != nil {
			t.Errorf("the same again: %v, as if the answer had got lost", err)
		}
	}
	next(one, two)
	other := one
	other.Hash = "cc"
	if err := c.CreateToken(t.Context(), other); !errors.Is(err, component.ErrChanged) {
		t.Errorf("another token of the same ID: %v", err)
	}
	if _, err := m.Client(t).Put(t.Context(), "/gantryd/tokens/bad", "not JSON"); err != nil {
		t.Fatal(err)
	}
	if there, err := c.DeleteToken(t.Context(), "one"); err != nil || !there {
		t.Errorf("delete = %v, %v", there, err)
	}
	next(two)
	if there, err := c.DeleteToken(t.Context(), "one"); err != nil || there {
		t.Errorf("delete again = %v, %v", there, err)
	}
	if names, err := c.Projects(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("tokens make projects: %v, %v", names, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended with %v", err)
	}
}

func TestReplaceConfig(t *testing.T) {
	c := dial(t, etcdstate.Config{Endpoints: []string{etcdtest.Start(t).Endpoint()}})
	a, b := []byte(`{"components":[]}`), []byte(`{"components":[{"name":"web","repo":"r"}]}`)
	replace := func(config []byte, revision int64) (int64, error) {
		return c.ReplaceConfig(t.Context(), "shop", config, revision)
	}
	if _, err := replace(a, 7); !errors.Is(err, component.ErrChanged) {
		t.Errorf("replace of nothing at 7: %v", err)
	}
	first, err := replace(a, 0)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := replace(a, 0); err != nil || again != first {
		t.Errorf("the same again = %d, %v, as if the answer had got lost", again, err)
	}
	if _, err := replace(b, 0); !errors.Is(err, component.ErrChanged) {
		t.Errorf("replace of another: %v", err)
	}
	second, err := replace(b, first)
	if err != nil || second <= first {
		t.Fatalf("replace = %d, %v", second, err)
	}
	if raw, at, err := c.ConfigAt(t.Context(), "shop"); err != nil || at != second || string(raw) != string(b) {
		t.Errorf("config = %s at %d, %v", raw, at, err)
	}
	if _, err := replace([]byte(`{"components":1}`), second); err == nil {
		t.Error("what is no project was stored")
	}
}

// TestMoments makes changes while one watches, and asks from the middle again: the same is told.
func TestMoments(t *testing.T) {
	m := etcdtest.Start(t)
	c := dial(t, etcdstate.Config{Endpoints: []string{m.Endpoint()}})
	if _, err := c.ReplaceConfig(t.Context(), "shop", []byte(`{"components":[{"name":"web","repo":"r"}]}`), 0); err != nil {
		t.Fatal(err)
	}
	type moment struct{ Revision, Generation int64 }
	errEnough := errors.New("enough")
	collect := func(from int64, told chan<- moment, until int64) error {
		last := int64(-1)
		return c.Moments(t.Context(), "shop", from, func(rev int64, p etcdstate.Project) error {
			if gen := p.Components["web"].Desired.Generation; gen != last { // else nothing has changed
				last = gen
				told <- moment{rev, gen}
			}
			if until != 0 && rev >= until {
				return errEnough
			}
			return nil
		})
	}
	live := make(chan moment, 100)
	go func() { _ = collect(0, live, 0) }() // until the test ends
	first := <-live
	var gens []int64
	for range 5 {
		gen, err := c.SetDesired(t.Context(), "shop", "web", component.Desired{Status: component.StatusStopped})
		if err != nil {
			t.Fatal(err)
		}
		gens = append(gens, gen)
		if _, err := m.Client(t).Put(t.Context(), "/elsewhere", "x"); err != nil {
			t.Fatal(err)
		}
	}
	want := []moment{first}
	for _, g := range gens {
		want = append(want, moment{g, g})
	}
	got := []moment{first}
	for range gens {
		got = append(got, <-live)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("live (-got +want):\n%s", diff)
	}
	again := make(chan moment, 100)
	if err := collect(gens[1], again, gens[4]); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	close(again)
	got = nil
	for e := range again {
		got = append(got, e)
	}
	if diff := cmp.Diff(got, want[2:]); diff != "" {
		t.Errorf("from the second (-got +want):\n%s", diff)
	}
	for name, from := range map[string]int64{"compacted": gens[0], "in the future": gens[4] + 1000} {
		if name == "compacted" {
			etcdtest.Compact(t, m.Endpoint())
		}
		if err := collect(from, again, 0); !errors.Is(err, etcdstate.ErrForgotten) {
			t.Errorf("%s: %v, want ErrForgotten", name, err)
		}
	}
}
