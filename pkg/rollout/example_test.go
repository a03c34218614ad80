package rollout_test

import (
	"fmt"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// The data of the store was restored from a backup. A host that knows better acts on it only once an
// operator has said so.
func ExampleTrust() {
	known := component.HostRecord{Cluster: "cluster-1", Revision: 812}
	restored := component.Cluster{ID: "cluster-1", Revision: 40}
	_, ok, reason := rollout.Trust(restored, known)
	fmt.Println(ok, reason)

	restored.Adoption = component.Adoption{Nonce: "n1", Cluster: "cluster-1", By: "ann"}
	known, ok, _ = rollout.Trust(restored, known)
	fmt.Println(ok, known.Revision)
	// Output:
	// false the store is older than before (revision 40, before 812)
	// true 40
}
