// Package storetest is the contract of supervisor.Store as a test: one suite, run on every store,
// so that what the supervisor learns on one machine holds on a fleet.
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Fixture {
//			return storetest.Fixture{Hosts: …, Operator: …}
//		})
//	}
//
// The suite calls Store.Run itself, once for each store, and ends it before the subtest ends. It
// knows no implementation: what only one of them can do, such as losing a lease, is tested there.
//
// It uses its fixtures from several goroutines at once, as the supervisor does.
package storetest
