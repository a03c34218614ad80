// Package workqueue hands out keys to reconcile.
//
// A key says that something should be looked at, never what happened. Adding a key that waits
// already changes nothing, so a burst of events costs one pass. A key added while it is being worked
// on gets exactly one more pass afterwards. Keys are handed out in the order in which they were
// first added, so that a busy one cannot starve the others.
//
//	k, done, err := q.Get(ctx)
//	if err != nil {
//		return err // the context ended or the queue was closed
//	}
//	defer done()
//	reconcile(ctx, k)
//
// All methods may be called at once, by any number of workers; a key is never in two hands. Add and
// AddAfter never block. The queue starts no goroutine; delayed keys are timers, which Close stops.
//
// The queue does not know what a key means, does not retry and keeps nothing across restarts.
package workqueue
