// Package proxybench compares the proxy with HAProxy and nginx, side by side in one run:
//
//	make bench BENCH=AgainstHAProxy                              # two tables, in about five minutes
//	GANTRYD_BENCH_FOR=300ms make bench BENCH=AgainstHAProxy      # in less than two
//
// GANTRYD_BENCH_ROUNDS is how many rounds there are (3), GANTRYD_BENCH_FOR how long each load counts
// (1s); GANTRYD_BENCH_ONLY=conns,idle,... makes some of the measures only. GANTRYD_BENCH_ALSO=NAME=PATH,... measures other builds of gantryd in the same rounds, which is
// how a change to the data plane is judged.
//
// One network namespace, which nothing tracks the connections of, holds a server, the proxies and a
// load generator, each a process of its own on the same processors. A round puts every proxy under
// the same load, one after another; what is compared are medians over the rounds, as ratios to
// HAProxy. So a machine that is busy with other things moves all of them together.
//
// The generator and the server (Main) are loops over epoll that allocate nothing under load, so that
// what they cost does not hide what the proxies cost; without a proxy between them they reach about
// twice the figures of the best one (column DIRECT). A proxy's processor time, memory and descriptors are the kernel's
// account of its process. Latencies at a fixed rate count from the moment a request was due, not from the
// moment a late generator got around to sending it.
//
// Functions of the package may be called at once. It knows nothing of how a proxy works.
package proxybench
