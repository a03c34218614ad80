package etcdstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// errNoLease says that this host has no lease now; it is getting one.
var errNoLease = fmt.Errorf("%w: this host has no lease at the moment", component.ErrUnreachable)

// leaseLoop gets a lease, registers the host under it and keeps it; after a loss it starts again.
func (s *Store) leaseLoop(ctx context.Context) error {
	old := s.rememberedLease()
	if s.inheritLease() {
		old = s.hold(ctx)
	}
	for ctx.Err() == nil {
		if err := s.acquire(ctx, old); err != nil {
			return err
		}
		old = s.hold(ctx)
	}
	return context.Cause(ctx)
}

// Keep renews the lease that another process of this daemon left, until ctx ends or the lease is lost, which Run
// mends. It is for the time between being the one whose lease it is, and Run, which must not run yet.
func (s *Store) Keep(ctx context.Context) {
	if s.inheritLease() {
		s.hold(ctx)
	}
}

// inheritLease goes on with the lease of another process of this daemon, and reports whether there is one. It
// is not trusted before it was renewed.
func (s *Store) inheritLease() bool {
	s.mu.Lock()
	id := s.granted
	s.mu.Unlock()
	if id == 0 {
		return false
	}
	s.update(func() changes {
		s.lease = lease{id: id, registered: true}
		return nil
	})
	signal(s.doubt) // renew at once
	return true
}

// acquire gets a lease and registers the host. It goes on until it has both, except when another
// daemon has the name for longer than a dead one could.
func (s *Store) acquire(ctx context.Context, old clientv3.LeaseID) error {
	var fresh lease
	var taken time.Time // since when the name is
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		err := s.tryAcquire(ctx, &old, &fresh)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.update(func() changes {
			s.leaseErr = err
			if err != nil {
				return nil
			}
			s.lease = fresh
			return changes{"": true}
		})
		switch {
		case err == nil:
			s.log.Info("host registered", "host", s.host, "lease", leaseText(fresh.id))
			return nil
		case errors.Is(err, errAgain):
			wait = 50 * time.Millisecond
		case !errors.Is(err, ErrHostTaken):
			taken = time.Time{}
		case taken.IsZero():
			taken = time.Now()
			s.log.Warn("host name is taken, waiting for a lease to end", "host", s.host, "err", err)
			wait = 250 * time.Millisecond
		case time.Since(taken) > s.ttl+2*time.Second:
			return fmt.Errorf("register: %w; two hosts cannot have one name", err)
		default:
			wait = 250 * time.Millisecond
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// errAgain says that something changed between reading and writing.
var errAgain = errors.New("register host: changed meanwhile")

// tryAcquire goes as far as it can: away with the old lease, a new one, the machine's key under it.
func (s *Store) tryAcquire(ctx context.Context, old *clientv3.LeaseID, fresh *lease) error {
	if *old != 0 {
		if err := s.revoke(ctx, *old); err != nil {
			return err
		}
		*old = 0
	}
	key := s.keys.machine(s.host)
	resp, err := s.client.get(ctx, key)
	if err != nil {
		return err
	}
	seen := int64(0)
	for _, kv := range resp.Kvs {
		var m machineValue
		err := decode(key, kv.Value, &m)
		// Without a lease it was written by hand; with our nonce, under a lease of ours.
		if kv.Lease != 0 && (err != nil || m.Nonce != s.nonce) {
			return fmt.Errorf("%w: daemon at %q, started %s, nonce %q, is %q", ErrHostTaken,
				m.IP, m.StartedAt.Format(time.RFC3339), m.Nonce, s.host)
		}
		seen = kv.ModRevision
	}
	if !time.Now().Before(fresh.until) {
		if *fresh, err = s.grant(ctx); err != nil {
			return err
		}
	}
	return s.register(ctx, fresh, seen)
}

// grant gets a lease and writes its ID to the lease file.
func (s *Store) grant(ctx context.Context) (lease, error) {
	var l lease
	after := failpoint.Around(failpoint.Grant)
	err := s.client.retry(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		asked := time.Now()
		resp, err := etcd.Grant(ctx, int64(s.ttl/time.Second))
		if err != nil {
			return err
		}
		l = lease{id: resp.ID, until: asked.Add(s.ttl)}
		return nil
	})
	after()
	if err != nil {
		return lease{}, err
	}
	s.mu.Lock()
	s.granted = l.id
	s.mu.Unlock()
	if err := s.rememberLease(l.id); err != nil {
		s.log.Warn("lease file not written, a restart will wait for the lease to end", "err", err)
	}
	return l, nil
}

// register writes the machine's key under l, provided that it is as it was seen.
func (s *Store) register(ctx context.Context, l *lease, seen int64) error {
	defer failpoint.Around(failpoint.Register)()
	key := s.keys.machine(s.host)
	s.mu.Lock()
	m := clone(s.machine)
	s.mu.Unlock()
	value, err := encode(key, machineValue{m, newID()})
	if err != nil {
		return err
	}
	done, _, err := s.commit(ctx, []clientv3.Cmp{unchanged(key, seen)}, []write{put(key, value, l.id)}, reads(key))
	switch {
	case errors.Is(err, errNoLease):
		*l = lease{}
		return errAgain
	case err != nil:
		return err
	case !done:
		return errAgain
	}
	l.registered = true
	return nil
}

// hold renews the lease until it is lost or ctx ends, and returns its ID.
func (s *Store) hold(ctx context.Context) clientv3.LeaseID {
	s.mu.Lock()
	l := s.lease
	s.mu.Unlock()
	stream := &renewals{client: s.client, id: l.id}
	defer stream.close()
	next, trusted := s.ttl/3, time.Now().Before(l.until)
	s.repairBriefly(ctx)
	for s.waitToRenew(ctx, next) {
		asked := time.Now()
		err := s.renew(ctx, stream)
		if ctx.Err() != nil {
			break
		}
		recovered := false
		next = s.ttl / 3
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			s.lost()
			return l.id
		case err != nil:
			next = time.Second
		default:
			l.until = asked.Add(s.ttl)
		}
		expired := trusted && !time.Now().Before(l.until)
		s.update(func() changes {
			recovered = s.leaseErr != nil && err == nil
			s.leaseErr, s.lease.until = err, l.until
			if expired || (!trusted && err == nil) {
				return changes{"": true} // turns are no longer, or again, mine
			}
			return nil
		})
		trusted = time.Now().Before(l.until)
		if recovered {
			signal(s.relist)
		}
		if err == nil && !s.repairBriefly(ctx) {
			s.lost()
			return l.id
		}
	}
	return l.id
}

// waitToRenew waits for d, or for a doubt, and says whether ctx goes on.
func (s *Store) waitToRenew(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-s.doubt:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// lost forgets the lease: what hung on it is gone, turns above all.
func (s *Store) lost() {
	s.update(func() changes {
		s.lease, s.leaseErr = lease{}, errNoLease
		return changes{"": true}
	})
	s.log.Warn("lease lost, registering again", "host", s.host)
}

// renew asks for the lease's life until an answer comes or TTL/5 passed. It tries more than once,
// because each try may go to another member.
func (s *Store) renew(ctx context.Context, r *renewals) error {
	ctx, cancel := context.WithTimeout(ctx, s.answerTime())
	defer cancel()
	for first := true; ; first = false {
		resp, err := r.renew(ctx, max(s.answerTime()/3, time.Second))
		if err == nil {
			if !first {
				signal(s.relist) // what hit the renewals may have hit the watch
			}
			s.observe(resp.Header.ClusterId, resp.Header.Revision)
			if resp.TTL <= 0 {
				return rpctypes.ErrLeaseNotFound
			}
			return nil
		}
		r.close()
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%w: lease not renewed within %s: %w", component.ErrUnreachable, s.answerTime(), err)
		}
	}
}

// renewals is the stream that renewals go through. It is kept open: with a user, opening one costs
// etcd a password check.
type renewals struct {
	client *Client
	id     clientv3.LeaseID
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

// renew sends one renewal and waits for its answer, not longer than timeout. Opening the stream may
// take longer: a password check is slow, and tried again and again it gets slower for everyone.
func (r *renewals) renew(ctx context.Context, timeout time.Duration) (*pb.LeaseKeepAliveResponse, error) {
	if r.stream == nil {
		if err := r.open(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(ctx, r.cancel)()
	if err := r.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(r.id)}); err != nil {
		return nil, err
	}
	return r.stream.Recv()
}

// open starts the stream; it outlives ctx.
func (r *renewals) open(ctx context.Context) error {
	etcd, err := r.client.etcd(ctx)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	stream, err := pb.NewLeaseClient(etcd.ActiveConnection()).LeaseKeepAlive(life, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return err
	}
	r.stream, r.cancel = stream, cancel
	return nil
}

func (r *renewals) close() {
	if r.stream == nil {
		return
	}
	r.cancel()
	r.stream = nil
}

// revoke ends a lease and deletes what hangs on it. Nil when it has ended already.
func (s *Store) revoke(ctx context.Context, id clientv3.LeaseID) error {
	defer failpoint.Around(failpoint.Revoke)()
	err := s.client.retry(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		_, err := etcd.Revoke(ctx, id)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %s: %w", leaseText(id), err)
	}
	return nil
}

func leaseText(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// rememberedLease is the lease of this host's previous daemon, 0 when nothing is known of one.
func (s *Store) rememberedLease() clientv3.LeaseID {
	if s.leaseFile == "" {
		return 0
	}
	b, err := os.ReadFile(s.leaseFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var id int64
	if err == nil {
		id, err = strconv.ParseInt(strings.TrimSpace(string(b)), 16, 64)
	}
	if err != nil {
		s.log.Warn("lease file not read, waiting for the lease to end", "err", err)
		return 0
	}
	return clientv3.LeaseID(id)
}

// rememberLease writes the lease file. Losing it costs the next daemon some waiting, so it is not synced.
func (s *Store) rememberLease(id clientv3.LeaseID) error {
	if s.leaseFile == "" {
		return nil
	}
	temp := s.leaseFile + ".new"
	if err := os.WriteFile(temp, []byte(leaseText(id)+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, s.leaseFile)
}

func (s *Store) forgetLease() error {
	if s.leaseFile == "" {
		return nil
	}
	if err := os.Remove(s.leaseFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
