package proxybench

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idleConns is how many idle connections the memory of one is measured with: more than twice as many
// descriptors is what many machines allow.
const idleConns = 9500

// workers is how many connections there are at once under load.
const workers = 64

// A measure is one load that every peer is put under.
type measure struct {
	name string
	http bool
	job  Job
}

// measures are all of them, or those that GANTRYD_BENCH_ONLY names.
func measures() []measure {
	all := []measure{
		{name: "conns", job: Job{Test: TestConns, Conns: workers}},
		{name: "requests", job: Job{Test: TestRequests, Conns: workers}},
		{name: "rate", job: Job{Test: TestRate, Conns: workers, Rate: 4000}},
		{name: "download 1", job: Job{Test: TestDownload, Conns: 1}},
		{name: "download 8", job: Job{Test: TestDownload, Conns: 8}},
		{name: "upload 1", job: Job{Test: TestUpload, Conns: 1}},
		{name: "upload 8", job: Job{Test: TestUpload, Conns: 8}},
		{name: "http requests", http: true, job: Job{Test: TestRequests, Conns: workers}},
		{name: "http rate", http: true, job: Job{Test: TestRate, Conns: workers, Rate: 4000}},
	}
	return slices.DeleteFunc(all, func(m measure) bool { return !wanted(m.name) })
}

// wanted reports whether a measure is to be made.
func wanted(name string) bool {
	only := os.Getenv("GANTRYD_BENCH_ONLY")
	return only == "" || slices.Contains(strings.Split(only, ","), name)
}

// A plan is how long the comparison takes.
type plan struct {
	rounds int
	each   time.Duration
}

// planned reads GANTRYD_BENCH_ROUNDS (default 3) and GANTRYD_BENCH_FOR (default 1s).
func planned(tb testing.TB) plan {
	tb.Helper()
	p := plan{3, time.Second}
	var err error
	if s := os.Getenv("GANTRYD_BENCH_ROUNDS"); s != "" {
		if p.rounds, err = strconv.Atoi(s); err != nil || p.rounds < 1 {
			tb.Fatalf("GANTRYD_BENCH_ROUNDS %q: not a number of rounds", s)
		}
	}
	if s := os.Getenv("GANTRYD_BENCH_FOR"); s != "" {
		if p.each, err = time.ParseDuration(s); err != nil || p.each <= 0 {
			tb.Fatalf("GANTRYD_BENCH_FOR %q: not a length of time", s)
		}
	}
	return p
}

// A runner is a peer that runs.
type runner struct {
	peer
	pid     int      // 0 for the server
	process *process // nil when it is not stopped here
}

// samples are results by measure and peer, one for each round.
type samples map[string]map[string][]Result

func (s samples) add(measure, peer string, r Result) {
	if s[measure] == nil {
		s[measure] = map[string][]Result{}
	}
	s[measure][peer] = append(s[measure][peer], r)
}

// compare puts all peers under all measures, in rounds. Each measure goes from peer to peer before the
// next one, and every round begins with another peer.
func (s *space) compare(tb testing.TB, p plan, runners []runner, ms []measure) samples {
	tb.Helper()
	all := samples{}
	for round := range p.rounds {
		for _, m := range ms {
			for i := range runners {
				r := runners[(i+round)%len(runners)]
				addr := r.tcp
				if m.http {
					addr = r.http
				}
				if addr == "" {
					continue
				}
				job := m.job
				job.Addr, job.Warm, job.For, job.PID = addr, warm(p.each), p.each, r.pid
				got := s.load(tb, job)
				if got.Errors > 0 {
					tb.Errorf("%s, %s: %d errors, the first: %s", r.name, m.name, got.Errors, got.Error)
				}
				all.add(m.name, r.name, got)
			}
		}
	}
	return all
}

// warm is how long a load goes on before it counts.
func warm(each time.Duration) time.Duration { return min(each/3, 300*time.Millisecond) }

// run starts the peers and waits until they forward.
func (s *space) run(tb testing.TB, peers []peer) []runner {
	tb.Helper()
	var runners []runner
	for _, p := range peers {
		r := runner{peer: p}
		if p.start != nil {
			r.process = p.start(tb)
			r.pid = r.process.pid()
			for _, addr := range []string{p.tcp, p.http} {
				if addr != "" {
					s.await(tb, r.process, addr)
				}
			}
		}
		runners = append(runners, r)
	}
	return runners
}

// stop stops the processes of peers.
func stop(runners []runner) {
	for _, r := range runners {
		if r.process != nil {
			r.process.stop()
		}
	}
}

// idle measures what idle connections cost each peer that forwards connections: in a process that has
// done something already, but had few connections.
func (s *space) idle(tb testing.TB, rounds int, peers []peer, all samples) {
	tb.Helper()
	if !wanted("idle") {
		return
	}
	for range rounds {
		for _, p := range peers {
			if p.start == nil || p.tcp == "" {
				continue
			}
			running := s.run(tb, []peer{p})
			all.add("idle", p.name, s.idleOf(tb, running[0]))
			stop(running)
		}
	}
}

func (s *space) idleOf(tb testing.TB, r runner) Result {
	tb.Helper()
	for _, test := range []string{TestConns, TestRequests} {
		s.load(tb, Job{Test: test, Addr: r.tcp, Conns: workers, For: 300 * time.Millisecond, PID: r.pid})
	}
	got := s.load(tb, Job{Test: TestIdle, Addr: r.tcp, Conns: idleConns, Warm: time.Second, PID: r.pid})
	if got.Errors > 0 {
		tb.Errorf("%s, idle: %d errors, the first: %s", r.name, got.Errors, got.Error)
	}
	return got
}

// without leaves out the peers of that name.
func without(peers []peer, name string) []peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.name == name })
}
