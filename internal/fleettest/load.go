package fleettest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The kinds of traffic.
const (
	Short     = "short"      // a connection for each request
	KeepAlive = "keep-alive" // a connection for all requests of a client
	Stream    = "stream"     // an answer that takes its time, checked line by line
	Echo      = "echo"       // a TCP connection for all messages of a client
)

// patience bounds everything a client waits for but a stream.
const patience = 40 * time.Second

// LoadOptions say what the clients do.
type LoadOptions struct {
	URL       string        // of internal/testapp, with a path
	Short     int           // clients of each kind
	KeepAlive int           //
	Streams   int           //
	StreamFor time.Duration // length of one answer; 30 s when 0
	EchoAddr  string        // host:port of a TCP echo, for Echoes
	Echoes    int           //
	Think     time.Duration // between two requests of a client; 10 ms when 0
}

// Mixed are clients of all kinds that suit a machine with two cores.
func Mixed(url string) LoadOptions { return LoadOptions{URL: url, Short: 3, KeepAlive: 3, Streams: 4} }

// A Load is steady traffic and what came of it.
type Load struct {
	o        LoadOptions
	begun    time.Time
	wg       sync.WaitGroup
	stopping chan struct{} // closed: no new request

	mu    sync.Mutex // guards what follows
	tally Tally
}

// A Tally is what clients saw.
type Tally struct {
	Requests map[string]int // by kind; those that failed, too
	Versions map[string]int // requests by who answered
	Failures []Failure
	Open     int           // streams that have begun and not ended
	Longest  time.Duration // of an answer that is no stream
	Lasted   time.Duration
}

// A Failure is a request that failed.
type Failure struct {
	At   time.Time
	Kind string
	Took time.Duration
	Err  error
}

// StartLoad starts the clients. They stop with the test at the latest.
func StartLoad(t testing.TB, o LoadOptions) *Load {
	t.Helper()
	if o.StreamFor == 0 {
		o.StreamFor = 30 * time.Second
	}
	if o.Think == 0 {
		o.Think = 10 * time.Millisecond
	}
	l := &Load{
		o: o, begun: time.Now(), stopping: make(chan struct{}),
		tally: Tally{Requests: map[string]int{}, Versions: map[string]int{}},
	}
	ctx := t.Context()
	for range o.Short {
		l.client(ctx, Short, &http.Transport{DisableKeepAlives: true}, l.get)
	}
	for range o.KeepAlive {
		l.client(ctx, KeepAlive, &http.Transport{}, l.get)
	}
	for range o.Streams {
		l.client(ctx, Stream, &http.Transport{}, l.stream)
	}
	for range o.Echoes {
		l.wg.Go(func() { l.echo(ctx) })
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

type request func(context.Context, *http.Client) (version string, err error)

// client asks again and again until the load stops.
func (l *Load) client(ctx context.Context, kind string, tr *http.Transport, ask request) {
	l.wg.Go(func() {
		defer tr.CloseIdleConnections()
		c := &http.Client{Transport: tr}
		for l.think(ctx) {
			begin := time.Now()
			version, err := ask(ctx, c)
			l.note(kind, version, time.Since(begin), err)
		}
	})
}

// think waits between two requests and says whether there is to be another one.
func (l *Load) think(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.stopping:
		return false
	case <-time.After(l.o.Think):
		return true
	}
}

func (l *Load) note(kind, version string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Requests[kind]++
	if err != nil {
		l.tally.Failures = append(l.tally.Failures, Failure{time.Now(), kind, took, err})
		return
	}
	l.tally.Versions[version]++
	if kind != Stream {
		l.tally.Longest = max(l.tally.Longest, took)
	}
}

func (l *Load) get(ctx context.Context, c *http.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := Get(ctx, c, l.o.URL)
	version, _, _ := strings.Cut(body, " ")
	return version, err
}

// Get asks for url and reads the whole answer.
func Get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), nil
}

// stream reads an answer of numbered lines and fails when one is missing.
func (l *Load) stream(ctx context.Context, c *http.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.StreamFor+patience)
	defer cancel()
	url := fmt.Sprintf("%s/stream?seconds=%g", strings.TrimRight(l.o.URL, "/"), l.o.StreamFor.Seconds())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	l.open(1)
	defer l.open(-1)
	return readStream(resp.Body)
}

func (l *Load) open(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Open += n
}

// readStream reads "VERSION 0", "VERSION 1", … up to "end".
func readStream(r io.Reader) (version string, err error) {
	lines := bufio.NewScanner(r)
	for n := 0; lines.Scan(); n++ {
		if lines.Text() == "end" && n > 0 {
			if lines.Scan() {
				return version, fmt.Errorf("%q after the end", lines.Text())
			}
			return version, lines.Err()
		}
		if n == 0 {
			version, _, _ = strings.Cut(lines.Text(), " ")
		}
		if want := fmt.Sprintf("%s %d", version, n); lines.Text() != want {
			return version, fmt.Errorf("line %q, want %q", lines.Text(), want)
		}
	}
	if err := lines.Err(); err != nil {
		return version, err
	}
	return version, io.ErrUnexpectedEOF
}

// echo sends messages over one connection; after a failure it opens another one.
func (l *Load) echo(ctx context.Context) {
	var conn net.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for n := 0; l.think(ctx); n++ {
		begin := time.Now()
		err := error(nil)
		if conn == nil {
			conn, err = (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", l.o.EchoAddr)
		}
		if err == nil {
			err = exchange(conn, fmt.Sprintf("message %d\n", n))
		}
		l.note(Echo, Echo, time.Since(begin), err)
		if err != nil && conn != nil {
			conn.Close()
			conn = nil
		}
	}
}

func exchange(conn net.Conn, message string) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != message {
		return fmt.Errorf("echo %q of %q", got, message)
	}
	return nil
}

// Last makes what the clients are at their last requests. It does not wait for them.
func (l *Load) Last() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stopping:
	default:
		close(l.stopping)
		l.tally.Lasted = time.Since(l.begun)
	}
}

// Stop lets the clients finish what they asked for, and returns what they saw.
func (l *Load) Stop() Tally {
	l.Last()
	l.wg.Wait()
	return l.Tally()
}

// Tally is what the clients have seen so far.
func (l *Load) Tally() Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.tally
	out.Requests, out.Versions = maps.Clone(out.Requests), maps.Clone(out.Versions)
	out.Failures = slices.Clone(out.Failures)
	return out
}

// Total is the number of all requests.
func (y Tally) Total() int {
	n := 0
	for _, v := range y.Requests {
		n += v
	}
	return n
}

// String is the tally for people.
func (y Tally) String() string {
	return fmt.Sprintf("%d requests %v in %v, answered by %v, %d failures, longest answer %v",
		y.Total(), y.Requests, y.Lasted.Round(100*time.Millisecond), y.Versions, len(y.Failures), y.Longest.Round(time.Millisecond))
}

// NoFailures fails the test when there was a failure, or no request of a kind that was asked for.
func (y Tally) NoFailures(t testing.TB, kinds ...string) {
	t.Helper()
	t.Log(y)
	for _, k := range kinds {
		if y.Requests[k] == 0 {
			t.Errorf("no request of kind %s", k)
		}
	}
	for i, f := range y.Failures {
		if i == 10 {
			t.Errorf("… and %d more", len(y.Failures)-i)
			break
		}
		t.Errorf("%s %s request failed: %v", f.At.Format("15:04:05.000"), f.Kind, f.Err)
	}
}
