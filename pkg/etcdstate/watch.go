package etcdstate

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Why a watch ended.
var (
	errWatchClosed = errors.New("watch closed")
	errWatchSilent = errors.New("watch says nothing, not even that nothing happened")
)

// watchLoop lists, follows the watch from there, and lists again when that ends: when etcd lost its
// leader or compacted what was not read yet, when the identity changed, when the watch does not
// answer, and every minute anyway.
func (s *Store) watchLoop(ctx context.Context) error {
	for wait, again := time.Second, 0; ctx.Err() == nil; {
		rev, scope, err := s.list(ctx)
		if err != nil {
			s.waitForList(ctx, wait)
			wait = min(2*wait, 10*time.Second)
			continue
		}
		wait = time.Second
		if again++; again < maxLooks && !s.suits(scope) {
			continue // the list told of more than was known when it was made
		}
		again = 0
		if err := s.follow(ctx, rev, scope); err != nil && ctx.Err() == nil {
			s.log.Info("watch ended, listing again", "err", err)
			if !errors.Is(err, rpctypes.ErrCompacted) {
				pause(ctx, 100*time.Millisecond) // a watch that ends at once must not spin
			}
		}
	}
	return context.Cause(ctx)
}

// maxLooks bounds how often the project is listed until the scope of a list suits what it told.
const maxLooks = 3

// suits reports whether the scope is right for what is known now.
func (s *Store) suits(scope scope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.cache.outgrown(scope, s.host)
}

// waitForList waits for about d, or until a list is asked for.
func (s *Store) waitForList(ctx context.Context, d time.Duration) {
	t := time.NewTimer(jitter(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-s.relist:
	}
}

// list reads the project, as far as this host has to know it, and returns the revision it was read at.
func (s *Store) list(ctx context.Context) (int64, scope, error) {
	resp, scope, err := s.project(ctx)
	if ctx.Err() != nil {
		return 0, scope, context.Cause(ctx)
	}
	var before, after string
	s.update(func() changes {
		s.listErr = err
		if err != nil {
			return nil
		}
		before = s.cache.id()
		changed := s.cache.list(resp)
		s.cache.partial = !scope.whole
		after = s.cache.id()
		return changed
	})
	if err != nil {
		return 0, scope, s.failing(err)
	}
	if before != "" && before != after {
		s.log.Warn("store holds other data than before", "before", before, "cluster", after)
		signal(s.doubt) // the lease is likely gone as well
	}
	return resp.Header.Revision, scope, nil
}

// follow applies watch events after rev until it is time to list again, which is no error. A watch
// that is cut off stays silent for ever, so it is asked for its progress again and again.
func (s *Store) follow(ctx context.Context, rev int64, scope scope) error {
	etcd, err := s.client.etcd(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := s.watch(ctx, &wg, etcd, scope, rev+1)
	resync := time.NewTimer(jitter(s.resync))
	defer resync.Stop()
	pulse := time.NewTicker(s.answerTime())
	defer pulse.Stop()
	heard := false
	for {
		select {
		case a := <-events:
			if a.ended {
				return errWatchClosed
			}
			if err := a.Err(); err != nil {
				return err
			}
			if !s.see(a.WatchResponse) || s.outgrown(scope, a.Events) {
				return nil
			}
			heard = true
		case <-pulse.C:
			if !heard || !s.askProgress(ctx, etcd) {
				return errWatchSilent
			}
			heard = false
		case <-resync.C:
			return nil
		case <-s.relist:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// outgrown says whether, after the events, the host has to know more, or less, than the scope has.
func (s *Store) outgrown(scope scope, events []*clientv3.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		switch s.keys.parse(string(e.Kv.Key)).kind {
		case kindMachine, kindConfig, kindState:
			return s.cache.outgrown(scope, s.host)
		default: // the same machines, and components that were there
		}
	}
	return false
}

// askProgress makes the watch say something. False: it could not even be asked.
func (s *Store) askProgress(ctx context.Context, etcd *clientv3.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, s.answerTime())
	defer cancel()
	return etcd.RequestProgress(ctx) == nil
}

// answerTime is how long a renewal of the lease, or the watch, may take to answer: TTL/5, 3 s by
// default, and not much less than a second even with a short lease.
func (s *Store) answerTime() time.Duration { return max(s.ttl/5, min(time.Second, s.ttl/3)) }

// see applies one answer of the watch and says whether the watch is still good.
func (s *Store) see(resp clientv3.WatchResponse) bool {
	good := true
	s.update(func() changes {
		changed, ok := s.cache.events(resp)
		good = ok && (resp.Header.ClusterId == 0 || resp.Header.ClusterId == s.cache.cluster)
		if resp.IsProgressNotify() {
			s.cache.revision = max(s.cache.revision, resp.Header.Revision)
		}
		return changed
	})
	return good
}

// observe looks at the header of an answer that came another way: of another cluster, or older than
// what was seen, it asks for a list.
func (s *Store) observe(cluster uint64, revision int64) {
	s.mu.Lock()
	odd := s.cache.listed && (cluster != s.cache.cluster || s.cache.outdated(revision))
	s.mu.Unlock()
	if odd {
		signal(s.relist)
	}
}
