package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args, os.Getenv, os.Stdout, os.Stderr))
}

// run is main without the globals; it returns the exit code.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 2 && args[1] == "check" {
		return check(args[2], stdout)
	}
	if len(args) > 1 && args[1] == "print" {
		if err := json.NewEncoder(stdout).Encode(args[2:]); err != nil {
			return 1
		}
		return 0
	}
	if len(args) > 2 && args[1] == "exit" {
		code, err := strconv.Atoi(args[2])
		if err != nil {
			return 1
		}
		return code
	}
	if len(args) > 2 && args[1] == "await" {
		return await(args[2], stdout)
	}
	cfg, err := readConfig(getenv)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	cfg.args = args
	return serve(cfg, log.New(stdout, "", 0), log.New(stderr, "", 0))
}

func check(url string, stdout io.Writer) int {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		fmt.Fprintln(stdout, err)
		return 1
	}
	defer resp.Body.Close()
	fmt.Fprintln(stdout, resp.Status)
	if resp.StatusCode/100 != 2 {
		return 1
	}
	return 0
}

type config struct {
	args                                    []string
	version, port, tcpPort, print           string
	readyAfter, unhealthyAfter, crashAfter  time.Duration
	neverReady, ignoreTerm, crash, sickness bool
	exitCode, allocMB                       int
}

func readConfig(getenv func(string) string) (config, error) {
	or := func(name, unset string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return unset
	}
	var errs []error
	duration := func(name string) time.Duration {
		d, err := time.ParseDuration(or(name, "0s"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return d
	}
	number := func(name, unset string) int {
		n, err := strconv.Atoi(or(name, unset))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}
	cfg := config{
		version: or("VERSION", "none"), port: or("PORT", "8080"), tcpPort: or("TCP_PORT", "9000"), print: getenv("PRINT"),
		readyAfter: duration("READY_AFTER"), unhealthyAfter: duration("UNHEALTHY_AFTER"), crashAfter: duration("CRASH_AFTER"),
		neverReady: getenv("NEVER_READY") != "", ignoreTerm: getenv("IGNORE_TERM") != "",
		crash: getenv("CRASH_AFTER") != "", sickness: getenv("UNHEALTHY_AFTER") != "",
		exitCode: number("EXIT_CODE", "1"), allocMB: number("ALLOC_MB", "0"),
	}
	return cfg, errors.Join(errs...)
}

// serve runs the servers until SIGTERM or the crash asked for; it returns the exit code.
func serve(cfg config, out, errOut *log.Logger) int {
	if cfg.print != "" {
		errOut.Print(cfg.print)
	}
	hoard := alloc(cfg.allocMB)
	out.Printf("version %s starting, %d bytes hoarded", cfg.version, len(hoard))

	if cfg.crash && cfg.crashAfter == 0 { // at once: nobody finds it ready first
		out.Printf("crashing with %d", cfg.exitCode)
		return cfg.exitCode
	}
	term := make(chan os.Signal, 1) // one is enough: the first one ends the process
	if cfg.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	}
	web, err := net.Listen("tcp", ":"+cfg.port)
	if err != nil {
		errOut.Print(err)
		return 1
	}
	a := newApp(cfg, out)
	a.listening.Store(time.Now().UnixNano())
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(web) })
	stopEcho := func() {}
	if cfg.tcpPort != "0" {
		if stopEcho, err = startEcho(cfg.tcpPort, &wg); err != nil {
			errOut.Print(err)
			return 1
		}
	}
	var crash <-chan time.Time
	if cfg.crash {
		crash = time.After(cfg.crashAfter)
	}
	out.Printf("listening on :%s and :%s", cfg.port, cfg.tcpPort)
	select {
	case <-crash:
		out.Printf("crashing with %d", cfg.exitCode)
		return cfg.exitCode
	case s := <-term:
		out.Printf("%v: finishing", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stopEcho()
	if err := srv.Shutdown(ctx); err != nil {
		errOut.Print(err)
		return 1
	}
	wg.Wait()
	out.Print("bye")
	return 0
}

// alloc returns that many MiB with every page touched.
func alloc(mb int) []byte {
	b := make([]byte, mb<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

// startEcho serves an echo. The function it returns closes the listener and every connection.
func startEcho(port string, wg *sync.WaitGroup) (stop func(), err error) {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	closed := false
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				mu.Unlock()
				c.Close()
				return
			}
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	return func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		closed = true
		for c := range conns {
			c.Close()
		}
	}, nil
}
