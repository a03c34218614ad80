// Package fleettest runs whole fleets for system tests: the built programs as processes, a real
// Docker Engine, a real etcd, and clients that count every failure.
//
//	func TestMain(m *testing.M) { os.Exit(fleettest.Main(m)) }
//
//	f := fleettest.New(t)                         // a project, its etcd and an image of its own
//	d := f.Daemon(t, "h1")                        // gantryd run, not started yet
//	d.Start(t)
//	f.Configure(t, f.Web())                       // gantryd setconfig
//	f.Release(t, "web", dockertest.Variant{Version: "v1"})
//	f.Update(t, "web")                            // gantryd update --wait
//	load := fleettest.StartLoad(t, fleettest.Mixed(d.URL(f.Port, "/")))
//	f.Release(t, "web", dockertest.Variant{Version: "v2"})
//	f.Update(t, "web")
//	load.Stop().NoFailures(t)
//
// Several daemons of one fleet share one Engine under different host names. Each fleet has addresses
// of its own in 127.0.0.0/8, so that fleets do not meet. Everything a fleet starts ends with its
// test: processes, containers of its project, names of its images. When a test fails, the ends of
// the processes' logs are printed. A data race or a panic in a process fails the test.
//
// A test that needs an Engine of its own, to restart it, takes StartEngine, which needs root and
// network namespaces. It is skipped with its reason otherwise, unless GANTRYD_REQUIRE lists fleet. With Across each
// host of a fleet is on an Engine of its own, which PowerOff takes away with all that runs beside it.
//
// With -short the tests of this package do a tenth of their rounds.
//
// A Fleet, its processes and an Engine belong to the goroutine of their test; a Load and an
// Inspector may be used by several. The package knows gantryd from outside only: its command line,
// what it keeps in etcd, the labels of its containers.
package fleettest
