package miner

import (
	"time"

	aitbcv1 "aitbc/v1"

	"google.golang.org/protobuf/proto"
)

const (
	// flushInterval is the longest time that a delta waits for company: below what a reader notices.
	flushInterval = 30 * time.Millisecond
	// messageBytes is about what one message has of news. The next one follows at once.
	messageBytes = 512 << 10
	// defaultMessageBytes is what a coordinator takes that does not say.
	defaultMessageBytes = 4 << 20
	// overheadBytes are beside the updates, in their message; updateBytes around each of them.
	overheadBytes = 1024
	updateBytes   = 32
)

// outbox decides when news of which leases go out, so that one message has news of many. Endings and first
// words go at once, with all that waits; the rest waits. The agent's lock guards it.
type outbox struct {
	dirty []*lease
	// isDue says that the next message does not wait.
	isDue     bool
	flushedAt time.Time
	// mostBytes is the largest message that the coordinator takes.
	mostBytes int
	// carried did not fit into the message before.
	carried []*aitbcv1.Update
}

func (o *outbox) put(one *lease, isUrgent bool) {
	if !one.isDirty {
		one.isDirty = true
		o.dirty = append(o.dirty, one)
	}
	o.isDue = o.isDue || isUrgent
}

func (o *outbox) discard(one *lease) {
	for at, other := range o.dirty {
		if other == one {
			o.dirty = append(o.dirty[:at], o.dirty[at+1:]...)
			break
		}
	}
	var kept []*aitbcv1.Update
	for _, update := range o.carried {
		if update.GetLeaseId() != one.id {
			kept = append(kept, update)
		}
	}
	o.carried = kept
}

// take returns the updates of the next message, or none and how long that will be so; negative when only
// news change it. endTooLarge ends a lease whose news fit into no message.
func (o *outbox) take(now time.Time, endTooLarge func(*lease)) ([]*aitbcv1.Update, time.Duration) {
	if len(o.dirty) == 0 && len(o.carried) == 0 {
		return nil, -1
	}
	if wait := o.flushedAt.Add(flushInterval).Sub(now); !o.isDue && len(o.carried) == 0 && wait > 0 {
		return nil, wait
	}
	size := 0
	for _, update := range o.carried {
		size += proto.Size(update)
	}
	for len(o.dirty) > 0 && size < messageBytes {
		one := o.dirty[0]
		o.dirty[0], o.dirty = nil, o.dirty[1:]
		one.isDirty = false
		for _, update := range o.updatesOf(one, endTooLarge) {
			size += proto.Size(update)
			o.carried = append(o.carried, update)
		}
	}
	o.flushedAt = now
	o.isDue = len(o.dirty) > 0
	return o.fitting(), 0
}

// fitting takes as many of the carried updates as one message holds, one at least.
func (o *outbox) fitting() []*aitbcv1.Update {
	size, count := 0, 0
	for _, update := range o.carried {
		size += proto.Size(update) + updateBytes
		if count > 0 && size > o.mostBytes-overheadBytes {
			break
		}
		count++
	}
	updates := o.carried[:count:count]
	o.carried = o.carried[count:]
	return updates
}

func (o *outbox) updatesOf(one *lease, endTooLarge func(*lease)) []*aitbcv1.Update {
	marks, endingTold := len(one.marks), one.endingTold
	updates := one.takeUpdates()
	for _, update := range updates {
		if proto.Size(update) > o.mostBytes-overheadBytes {
			// None of them was sent: their numbers are free.
			one.marks, one.endingTold = one.marks[:marks], endingTold
			one.completion = nil
			endTooLarge(one)
			return one.takeUpdates()
		}
	}
	return updates
}
