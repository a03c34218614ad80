package localstate

import (
	"testing"

	"github.com/gantryd/gantryd/internal/storetest"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

var (
	_ supervisor.Store  = (*Store)(nil)
	_ supervisor.Memory = (*Memory)(nil)
)

func TestStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		s, err := OpenStore(t.TempDir(), Options{Host: "h1", Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Fixture{Hosts: []storetest.Host{{Name: "h1", Store: s}}, Operator: s}
	})
}
