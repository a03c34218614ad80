package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/failpoint"
)

const (
	defaultNetwork = "bridge"
	hostNetwork    = "host"
)

// A gateway is a remembered answer of Gateway.
type gateway struct {
	addr string
	at   time.Time
}

// Gateway is the address of this host as seen from a container on the network; "" is the default
// one. Answers are remembered for a minute. Only bridges have such an address.
func (e *Engine) Gateway(ctx context.Context, name string) (string, error) {
	defer failpoint.Around(failpoint.Gateway)()
	switch {
	case name == "":
		name = defaultNetwork
	case name == hostNetwork:
		return "127.0.0.1", nil
	case name == "none" || strings.HasPrefix(name, "container:"):
		return "", fmt.Errorf("find gateway of network %q: it has none", name)
	}
	e.mu.Lock()
	known, ok := e.gateways[name]
	e.mu.Unlock()
	if ok && time.Since(known.at) < e.limits.gatewayAge {
		return known.addr, nil
	}
	addr, err := e.findGateway(ctx, name)
	if err != nil {
		return "", fmt.Errorf("find gateway of network %q: %w", name, err)
	}
	e.mu.Lock()
	e.gateways[name] = gateway{addr, time.Now()}
	e.mu.Unlock()
	return addr, nil
}

func (e *Engine) findGateway(ctx context.Context, name string) (string, error) {
	var n network.Inspect
	err := e.call(ctx, e.limits.query, func(ctx context.Context, cli *client.Client) (err error) {
		n, err = cli.NetworkInspect(ctx, name, network.InspectOptions{})
		return err
	})
	if err != nil {
		return "", err
	}
	if n.Driver != "bridge" {
		return "", fmt.Errorf("this host has no address on a network of driver %s", n.Driver)
	}
	return gatewayOf(n.IPAM.Config)
}

// gatewayOf prefers IPv4, and takes the first address of the subnet, as the Engine does, when no
// gateway is written down.
func gatewayOf(pools []network.IPAMConfig) (string, error) {
	var found netip.Addr
	for _, p := range pools {
		gw, _, _ := strings.Cut(p.Gateway, "/")
		addr, err := netip.ParseAddr(gw)
		if err != nil {
			subnet, err := netip.ParsePrefix(p.Subnet)
			if err != nil {
				continue
			}
			addr = subnet.Masked().Addr().Next()
		}
		if addr.Is4() {
			return addr.String(), nil
		}
		if !found.IsValid() {
			found = addr
		}
	}
	if !found.IsValid() {
		return "", errors.New("it has neither gateway nor subnet")
	}
	return found.String(), nil
}
