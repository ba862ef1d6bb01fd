package miner

import (
	"math/rand"
	"time"
)

const (
	firstPause = 200 * time.Millisecond
	// Until it is long gone, a coordinator is taken to be restarting.
	soon = time.Second
	// Below how long a lease lasts: a coordinator that comes back finds its miners before theirs end.
	longestPause = 10 * time.Second
)

// backoff waits longer the longer it has waited, a random part of that: miners that lost the same
// coordinator at the same moment must not return at the same moment.
type backoff struct {
	longest, waited time.Duration
}

func (b *backoff) next() time.Duration {
	if b.longest == 0 {
		b.longest = firstPause
	}
	wait := time.Duration(rand.Int63n(int64(b.longest)))
	b.waited += wait
	b.longest = shorter(2*b.longest, soon)
	if part := b.waited / 4; part > b.longest {
		b.longest = part
	}
	b.longest = shorter(b.longest, longestPause)
	return wait
}

func shorter(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

func init() { rand.Seed(time.Now().UnixNano()) }
