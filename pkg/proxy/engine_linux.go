package proxy

import (
	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/loop"
)

// newEngine returns the engine of that name; "" is the default.
func newEngine(p *Proxy, name string) carry.Engine {
	if name == Goroutines {
		return p.goroutines
	}
	return loop.New(p.wg.Go, loop.Options{Loops: LoopCount, KeepAlive: dialer().KeepAliveConfig})
}
