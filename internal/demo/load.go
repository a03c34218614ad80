package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Workers of the load, by kind of connection.
const (
	shortWorkers  = 4
	keepWorkers   = 4
	streamWorkers = 2
	thinkTime     = 5 * time.Millisecond
	streamSeconds = 3
)

// A load is steady traffic and what came of it.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	begun    time.Time
	marked   time.Time
	count    map[string]int       // answers by kind of connection
	first    map[string]time.Time // first answer by version
	last     map[string]time.Time
	versions map[string]int
	failed   []string
	longest  time.Duration
}

func startLoad(ctx context.Context, url string) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{
		cancel: cancel, begun: time.Now(), count: map[string]int{}, versions: map[string]int{},
		first: map[string]time.Time{}, last: map[string]time.Time{},
	}
	for range shortWorkers {
		l.wg.Go(func() {
			l.repeat(ctx, "short", &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url)
		})
	}
	for range keepWorkers {
		l.wg.Go(func() { l.repeat(ctx, "keep-alive", &http.Client{Transport: &http.Transport{}}, url) })
	}
	for range streamWorkers {
		l.wg.Go(func() {
			l.repeat(ctx, "stream", &http.Client{Transport: &http.Transport{}}, fmt.Sprintf("%sstream?seconds=%d", url, streamSeconds))
		})
	}
	return l
}

// repeat asks again and again until ctx ends; an answer cut off by that does not count.
func (l *load) repeat(ctx context.Context, kind string, c *http.Client, url string) {
	for ctx.Err() == nil {
		begin := time.Now()
		version, err := get(ctx, c, url)
		if ctx.Err() != nil {
			return
		}
		l.note(kind, version, time.Since(begin), err)
		select {
		case <-time.After(thinkTime):
		case <-ctx.Done():
		}
	}
}

// get reads an answer to its end and returns the version in its first line.
func get(ctx context.Context, c *http.Client, url string) (string, error) {
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
	r := bufio.NewReader(resp.Body)
	line, err := r.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	_, err = io.Copy(io.Discard, r)
	version, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return version, err
}

func (l *load) note(kind, version string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s: %v", kind, err))
		return
	}
	l.count[kind]++
	if kind == "stream" {
		return
	}
	l.longest = max(l.longest, took)
	l.versions[version]++
	if l.first[version].IsZero() {
		l.first[version] = now
	}
	l.last[version] = now
}

// mark notes when the update began.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marked = time.Now()
}

// steady lets the traffic go on for a while.
func (l *load) steady(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// report prints what the clients saw and returns how many requests failed.
func (l *load) report(w io.Writer) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, kind := range []string{"short", "keep-alive", "stream"} {
		fmt.Fprintf(w, "%-12s %6d requests\n", kind, l.count[kind])
		total += l.count[kind]
	}
	fmt.Fprintf(w, "requests %d, failures %d, longest stall %v\n", total, len(l.failed), l.longest.Round(100*time.Microsecond))
	for _, f := range l.failed[:min(5, len(l.failed))] {
		fmt.Fprintf(w, "  failed: %s\n", f)
	}
	for _, v := range slices.Sorted(maps.Keys(l.versions)) {
		fmt.Fprintf(w, "%s answered %5d times, from %s to %s\n", v, l.versions[v], l.since(l.first[v]), l.since(l.last[v]))
	}
	return len(l.failed)
}

// since is t seen from the update.
func (l *load) since(t time.Time) string {
	return fmt.Sprintf("%+.3f s", t.Sub(l.marked).Seconds())
}
