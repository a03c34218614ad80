// Package benchtest measures the daemon as it ships, on a real Docker Engine and a real etcd, and
// compares each figure with its target:
//
//	make bench                    # all of it, with a table at the end
//	make bench BENCH=Turn         # one of its benchmarks
//
// Times are medians, and costs are what is left after Docker Engine's own time for the same calls in
// the same turn: on a busy machine both grow, the difference says what is ours. Figures that do not
// depend on how busy the machine is (memory, descriptors, watches) are also tests, with a margin.
package benchtest
