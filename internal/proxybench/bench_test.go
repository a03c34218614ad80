package proxybench

import (
	"fmt"
	"os"
	"testing"

	"github.com/gantryd/gantryd/internal/daemontest"
	"github.com/gantryd/gantryd/internal/debiantest"
)

func debian(tb testing.TB) debiantest.Tree {
	tb.Helper()
	return debiantest.Unpack(tb, "fleet", "haproxy", "nginx", "libnginx-mod-stream")
}

// BenchmarkProxyAgainstHAProxy compares 'gantryd proxy'.
func BenchmarkProxyAgainstHAProxy(b *testing.B) {
	tree, s, p := debian(b), newSpace(b), planned(b)
	ours := s.gantryd(gantryd, daemontest.Build(b), 7301)
	also := s.also(b)
	peers := append([]peer{{name: direct, tcp: serverAddr, http: serverAddr}, s.haproxy(tree), s.nginx(tree)}, append(ours, also...)...)
	running := s.run(b, peers)
	all := s.compare(b, p, running, measures())
	stop(running)
	s.idle(b, min(p.rounds, 2), without(peers, nginx), all)

	others := []string{nginx, direct}
	for _, o := range also {
		if o.tcp != "" {
			others = append(others, o.name)
		}
	}
	title := fmt.Sprintf("The proxy alone against HAProxy: medians of %d interleaved rounds of %v; REACHED, ROUNDS and the last columns are ratios", p.rounds, p.each)
	all.print(os.Stdout, title, []string{gantryd}, others)
	for _, f := range figures()[:3] {
		b.ReportMetric(f.reached(all, gantryd), f.measure+"-ratio")
	}
	b.ReportMetric(0, "ns/op")
}
