package miner

import (
	"context"
	"errors"
	"runtime/debug"

	aitbcv1 "aitbc/v1"
)

// run asks the engine for an answer, and ends the lease with what comes.
func (a *agent) run(ctx context.Context, held *lease, job *Job) {
	answer := &Answer{Completion: &aitbcv1.Completion{Usage: &aitbcv1.Usage{}}, agent: a, lease: held}
	err := a.ask(ctx, job, answer)
	if err == nil {
		answer.finish()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	defer held.cancel()
	if err != nil {
		var failure *Failure
		if !errors.As(err, &failure) {
			if ctx.Err() == nil {
				a.miner.logf("lease %s: %v", held.id, err)
			}
			// The text may have a part of the prompt.
			failure = Passing("the engine failed")
		}
		a.end(held, failure)
		return
	}
	if held.isEnded() || a.leases[held.id] != held {
		return
	}
	done := answer.Completion
	done.Result, done.Reasoning = string(held.text), string(held.reasoning)
	if done.FinishReason == "" {
		done.FinishReason = "stop"
	}
	if done.Usage == nil {
		done.Usage = &aitbcv1.Usage{}
	}
	if done.Usage.CompletionTokens == nil {
		tokens := held.tokens
		done.Usage.CompletionTokens = &tokens
	}
	held.completion = done
	a.put(held, true)
}

// ask asks the engine. One that panics fails at this job alone.
func (a *agent) ask(ctx context.Context, job *Job, answer *Answer) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			a.miner.logf("engine panicked:\n%s", debug.Stack())
			err = Passing("the engine failed")
		}
	}()
	return a.engine.Answer(ctx, job, answer)
}

func (a *agent) say(held *lease, text, reasoning string, tokens int) {
	if text == "" && reasoning == "" && tokens == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if held.isEnded() || a.leases[held.id] != held {
		return
	}
	held.text = append(held.text, text...)
	held.reasoning = append(held.reasoning, reasoning...)
	held.tokens += int32(tokens)
	if len(held.text)+len(held.reasoning) > a.mostResult {
		a.end(held, resultTooLarge)
		return
	}
	a.put(held, held.isUntold())
}

func (a *agent) resume(held *lease) (string, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := held.resume
	if from.GetText() == "" || len(from.GetLogprobs()) > 0 || held.tokens > 0 || len(held.text) > 0 || len(held.reasoning) > 0 {
		return "", 0
	}
	held.text, held.tokens = []byte(from.GetText()), from.GetTokens()
	// It is update 0, told already.
	held.marks = []mark{{text: len(held.text), tokens: held.tokens}}
	return from.GetText(), int(from.GetTokens())
}
