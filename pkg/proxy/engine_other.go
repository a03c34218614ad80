//go:build !linux

package proxy

import "github.com/gantryd/gantryd/pkg/proxy/internal/carry"

// newEngine returns the only engine there is.
func newEngine(p *Proxy, _ string) carry.Engine { return p.goroutines }
