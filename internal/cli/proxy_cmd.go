package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/proxy"
)

// proxyOptions are the flags of proxy.
type proxyOptions struct {
	listen, target []string
	http           bool
	drain          time.Duration
}

func (g *gantryd) proxyCmd() *cobra.Command {
	var o proxyOptions
	cmd := &cobra.Command{
		Use: "proxy --listen ADDR --target ADDR", Short: "Run the proxy alone, for benchmarks and debugging",
		Long: `Forwards connections from each --listen address to the --target in the same place of the
order, with the proxy that the daemon has in it: no containers, no checks, no etcd.

SIGTERM or SIGINT closes the listeners and lets open connections end by themselves, up to
--drain; what is left then is closed. A second signal ends it at once. The exit code is 0
when every connection ended by itself, 1 when some had to be closed.`,
		Example: `  gantryd proxy --listen 127.0.0.1:8080 --target 172.17.0.2:80
  gantryd proxy --http --listen :8080 --target 10.0.0.1:80 --listen :8081 --target 10.0.0.2:80`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return g.proxy(cmd.Context(), o) },
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&o.listen, "listen", nil, "IP:PORT to listen on, :PORT for every IPv4 address; port 0 is chosen; may be given again")
	fs.StringArrayVar(&o.target, "target", nil, "IP:PORT that the connections go to; one for each --listen")
	fs.BoolVar(&o.http, "http", false, "forward HTTP requests instead of connections")
	fs.DurationVar(&o.drain, "drain", 30*time.Second, "longest wait for open connections at the end")
	for _, name := range []string{"listen", "target", "drain"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions) // fails for an unknown flag only
	}
	return cmd
}

// listeners are what the flags ask for.
func (o proxyOptions) listeners() ([]proxy.Listener, error) {
	if len(o.listen) == 0 {
		return nil, fail(exitUsage, "--listen and --target are needed").withHint("gantryd proxy --listen 127.0.0.1:8080 --target 10.0.0.1:80")
	}
	if len(o.listen) != len(o.target) {
		return nil, fail(exitUsage, "--listen is given %d times and --target %d times: each listener has one target", len(o.listen), len(o.target))
	}
	if o.drain < 0 {
		return nil, fail(exitUsage, "--drain %v: must not be negative", o.drain)
	}
	kind := proxy.TCP
	if o.http {
		kind = proxy.HTTP
	}
	var ls []proxy.Listener
	for i := range o.listen {
		from, err := addrPort("--listen", o.listen[i])
		if err != nil {
			return nil, err
		}
		to, err := addrPort("--target", o.target[i])
		if err != nil {
			return nil, err
		}
		if to.Port() == 0 || to.Addr().IsUnspecified() {
			return nil, fail(exitUsage, "--target %q: connections need an address and a port to go to", o.target[i])
		}
		name := strconv.Itoa(i + 1)
		ls = append(ls, proxy.Listener{
			Name: name, Addrs: []string{from.String()}, Kind: kind, TargetID: name, Target: to.String(),
		})
	}
	return ls, nil
}

// addrPort parses the address a flag was given.
func addrPort(flag, s string) (netip.AddrPort, error) {
	full := s
	if strings.HasPrefix(s, ":") {
		full = "0.0.0.0" + s
	}
	a, err := netip.ParseAddrPort(full)
	if err != nil {
		return a, fail(exitUsage, "%s %q: not an IP:PORT; names are not looked up", flag, s)
	}
	return a, nil
}

// errAnotherSignal is why a drain was cut short.
var errAnotherSignal = errors.New("another signal came")

// proxy forwards until a signal or the end of ctx, and then drains.
func (g *gantryd) proxy(ctx context.Context, o proxyOptions) error {
	ls, err := o.listeners()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2) // a second one may come before the first was seen
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	raiseProcs(g.env)
	p := proxy.New(ctx, proxy.Options{Log: logger(g.env, slog.LevelInfo)})
	if err := p.Apply("proxy", ls); err != nil {
		_ = p.Close() // the cause is known
		return err
	}
	for _, l := range ls {
		for _, addr := range p.Addr(l.Name) {
			fmt.Fprintf(g.env.Out, "Forwarding %s %s -> %s\n", l.Kind, addr, l.Target)
		}
	}
	fmt.Fprintln(g.env.Out, "Gantryd proxy running")
	select {
	case <-signals:
	case <-ctx.Done():
	}
	return g.endProxy(ctx, p, ls, o.drain, signals)
}

// endProxy lets connections end by themselves until the deadline or another signal.
func (g *gantryd) endProxy(ctx context.Context, p *proxy.Proxy, ls []proxy.Listener, within time.Duration, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), within, fmt.Errorf("not ended after %v", within))
	defer cancel()
	ctx, cut := context.WithCancelCause(ctx)
	open := 0
	for _, l := range ls {
		n, _ := p.Conns(l.TargetID)
		open += n
	}
	if open > 0 {
		fmt.Fprintf(g.env.Err, "%d connections open, waiting up to %v for their end; another signal closes them\n", open, within)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-signals:
			cut(errAnotherSignal)
		case <-ctx.Done():
		}
	})
	err := p.Shutdown(ctx)
	cut(nil)
	wg.Wait()
	if err != nil {
		return fmt.Errorf("close connections that were open: %w", err)
	}
	return nil
}
