package etcdtest

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Load is what a member has done since it was started.
type Load struct {
	Writes    int64 // transactions that changed something
	Proposals int64 // what it agreed on with its cluster: writes, and those that were refused, and leases
	Events    int64 // sent to watches
	Sent      int64 // bytes sent to clients
	Watchers  int64 // watches there are now
}

// Load reads the member's own counters.
func (m *Member) Load(tb testing.TB) Load {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	resp, err := m.own(tb).Get(ctx, "x")
	if err != nil {
		tb.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Endpoint()+"/metrics", nil)
	if err != nil {
		tb.Fatal(err)
	}
	page, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer page.Body.Close()
	l := Load{Writes: resp.Header.Revision}
	counters := map[string]*int64{
		"etcd_server_proposals_committed_total":     &l.Proposals,
		"etcd_debugging_mvcc_events_total":          &l.Events,
		"etcd_network_client_grpc_sent_bytes_total": &l.Sent,
		"etcd_debugging_mvcc_watcher_total":         &l.Watchers,
	}
	lines := bufio.NewScanner(page.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if c, ok := counters[name]; ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				tb.Fatalf("etcd's counter %s: %v", name, err)
			}
			*c = int64(f)
			delete(counters, name)
		}
	}
	if lines.Err() != nil || len(counters) > 0 {
		tb.Fatalf("etcd's counters: %v; missing %v", lines.Err(), counters)
	}
	return l
}

// Sub is what was done since an earlier time.
func (l Load) Sub(before Load) Load {
	return Load{
		Writes: l.Writes - before.Writes, Proposals: l.Proposals - before.Proposals, Events: l.Events - before.Events,
		Sent: l.Sent - before.Sent, Watchers: l.Watchers,
	}
}
