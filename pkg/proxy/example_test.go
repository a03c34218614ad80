package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy"
)

// A target is replaced: the connection that was open stays with the old one, the next goes to the new one.
func Example() {
	p := proxy.New(context.Background(), proxy.Options{Log: slog.New(slog.DiscardHandler)})
	defer p.Close()
	oldTarget, newTarget := speaker("old"), speaker("new")
	defer oldTarget.Close()
	defer newTarget.Close()

	web := proxy.Listener{
		Name: "web:80", Addrs: []string{"127.0.0.1:0"}, Kind: proxy.TCP,
		HoldMax: 1024, HoldTimeout: 30 * time.Second,
		TargetID: "4ae76210a4fe", Target: oldTarget.Addr().String(),
	}
	if err := p.Apply("web", []proxy.Listener{web}); err != nil {
		fmt.Println(err)
		return
	}
	first, _ := net.Dial("tcp", p.Addr("web:80")[0])
	fmt.Println(hear(first))

	web.TargetID, web.Target = "9bd1c2f03e77", newTarget.Addr().String()
	if err := p.Apply("web", []proxy.Listener{web}); err != nil {
		fmt.Println(err)
		return
	}
	p.Drain("4ae76210a4fe")
	second, _ := net.Dial("tcp", p.Addr("web:80")[0])
	fmt.Println(hear(second))
	open, _ := p.Conns("4ae76210a4fe")
	fmt.Println("left on the old target:", open)
	_ = second.Close()
	_ = first.Close()
	// Output:
	// old
	// new
	// left on the old target: 1
}

// The last connection of a drained target ends.
func ExampleProxy_OnIdle() {
	p := proxy.New(context.Background(), proxy.Options{Log: slog.New(slog.DiscardHandler)})
	defer p.Close()
	idle := make(chan string, 1)
	p.OnIdle(func(id string) { idle <- id })
	asked, answer := make(chan struct{}), make(chan struct{})
	site := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))
	defer site.Close()

	err := p.Apply("web", []proxy.Listener{{
		Name: "web:80", Addrs: []string{"127.0.0.1:0"}, Kind: proxy.HTTP,
		TargetID: "4ae76210a4fe", Target: site.Listener.Addr().String(),
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var client sync.WaitGroup
	client.Go(func() {
		res, err := http.Get("http://" + p.Addr("web:80")[0])
		if err == nil {
			_ = res.Body.Close()
			fmt.Println(res.Status)
		}
	})
	<-asked
	p.Drain("4ae76210a4fe")
	close(answer)
	client.Wait()
	fmt.Println(<-idle, "is idle")
	// Output:
	// 200 OK
	// 4ae76210a4fe is idle
}

// speaker is a target that says its name and then listens.
func speaker(name string) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = fmt.Fprintln(c, name)
				_, _ = c.Read(make([]byte, 1))
			}()
		}
	}()
	return ln
}

func hear(c net.Conn) string {
	s := bufio.NewScanner(c)
	s.Scan()
	return s.Text()
}
