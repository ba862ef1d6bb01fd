package aitbc

import (
	"context"
	"math/rand"
	"time"
)

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// retry makes a call again, while that may help, until the time, or the Context's own, would be over.
func retry(ctx context.Context, until time.Time, method func(context.Context) error) error {
	for longest := firstWait; ; longest *= 2 {
		failure := errorOf(method(ctx))
		if failure == nil {
			return nil
		}
		if longest > longestWait {
			longest = longestWait
		}
		wait := longest/2 + time.Duration(rand.Int63n(int64(longest/2)))
		if wait < failure.RetryDelay {
			wait = failure.RetryDelay
		}
		if !failure.mayPass() || !sleep(ctx, until, wait) {
			return failure
		}
	}
}

// sleep waits, unless the time or the Context's own would be over before; it says whether it did.
func sleep(ctx context.Context, until time.Time, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	if time.Until(until) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
