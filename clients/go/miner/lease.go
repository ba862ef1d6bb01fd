package miner

import (
	"context"

	aitbcv1 "aitbc/v1"
)

// lease is one job that the miner holds: what was said so far, and what of that the coordinator was told.
// It lives until the coordinator has stored how it ended.
//
// Updates are numbered from 0 without gaps. A coordinator that restarted may have forgotten some, and asks
// for them again by number; what is sent then may be cut otherwise. The agent's lock guards it.
type lease struct {
	id, jobID string
	cancel    context.CancelFunc
	resume    *aitbcv1.Resume

	text, reasoning []byte
	tokens          int32
	// marks say what was told by the end of each delta: the way back to any of them.
	marks []mark
	// completion or failure is how it ended.
	completion *aitbcv1.Completion
	failure    *aitbcv1.Failure
	endingTold bool
	// isDirty says that it waits to be told.
	isDirty bool
}

// mark is how much of an answer was told.
type mark struct {
	text, reasoning int
	tokens          int32
}

func (l *lease) isEnded() bool { return l.completion != nil || l.failure != nil }

// isUntold says that no update of it was ever made.
func (l *lease) isUntold() bool { return len(l.marks) == 0 && !l.endingTold }

// told returns how much was told.
func (l *lease) told() mark {
	if len(l.marks) == 0 {
		return mark{}
	}
	return l.marks[len(l.marks)-1]
}

// next returns the number of the next update.
func (l *lease) next() int64 {
	next := int64(len(l.marks))
	if l.endingTold {
		next++
	}
	return next
}

func (l *lease) hasNews() bool {
	told := l.told()
	return len(l.text) > told.text || len(l.reasoning) > told.reasoning ||
		// Tokens without a text, too: they are progress.
		!l.isEnded() && l.tokens > told.tokens
}

// takeUpdates returns what was not told yet, and counts it as told.
func (l *lease) takeUpdates() []*aitbcv1.Update {
	var updates []*aitbcv1.Update
	// The completion has the whole text: no delta precedes it unless somebody already follows.
	if l.hasNews() && (!l.isEnded() || l.completion != nil && len(l.marks) > 0) {
		updates = append(updates, l.takeDelta())
	}
	if l.isEnded() && !l.endingTold {
		ending := &aitbcv1.Update{LeaseId: l.id, Sequence: l.next()}
		if l.completion != nil {
			ending.Event = &aitbcv1.Update_Completion{Completion: l.completion}
		} else {
			ending.Event = &aitbcv1.Update_Failure{Failure: l.failure}
		}
		l.endingTold = true
		updates = append(updates, ending)
	}
	return updates
}

func (l *lease) takeDelta() *aitbcv1.Update {
	told := l.told()
	delta := &aitbcv1.Delta{
		Text:      string(l.text[told.text:]),
		Reasoning: string(l.reasoning[told.reasoning:]),
		Tokens:    l.tokens - told.tokens,
	}
	update := &aitbcv1.Update{
		LeaseId: l.id, Sequence: l.next(), Event: &aitbcv1.Update_Delta{Delta: delta},
	}
	l.marks = append(l.marks, mark{len(l.text), len(l.reasoning), l.tokens})
	return update
}

// isSettledBy says whether an acknowledgement covers the ending, so that the lease is over.
func (l *lease) isSettledBy(next int64) bool {
	return l.endingTold && next > int64(len(l.marks))
}

// rewind makes the update of this number the next one; it says whether there is news to tell. What was told
// from there on is told again, as one delta.
func (l *lease) rewind(next int64) bool {
	l.endingTold = false
	if next < int64(len(l.marks)) {
		l.marks = l.marks[:next]
	}
	// Ahead of what was ever sent: nothing of the text is missing, only the numbers move on.
	for int64(len(l.marks)) < next {
		l.marks = append(l.marks, l.told())
	}
	return l.hasNews() || l.isEnded()
}

// fail ends it without an answer; what was made of it and not sent is taken back.
func (l *lease) fail(why *Failure) {
	l.completion, l.failure = nil, why.message()
}
