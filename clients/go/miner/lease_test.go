package miner

import (
	"context"
	"strings"
	"testing"
	"time"

	aitbcv1 "aitbc/v1"
)

// spoken returns an agent that holds one job, whose engine is this test.
func spoken(t *testing.T, resume *aitbcv1.Resume) (*agent, *Answer, chan error) {
	t.Helper()
	answers, end := make(chan *Answer), make(chan error)
	engine := EngineFunc(func(_ context.Context, _ *Job, answer *Answer) error {
		answers <- answer
		return <-end
	})
	a := newAgent(&Miner{ID: "m", Models: []string{"m"}}, engine)
	a.hear(assignments(&aitbcv1.Assignment{LeaseId: "lease", Job: &aitbcv1.Job{JobId: "job", Model: "m"}, Resume: resume}))
	return a, <-answers, end
}

func assignments(all ...*aitbcv1.Assignment) *aitbcv1.CoordinatorMessage {
	return &aitbcv1.CoordinatorMessage{Message: &aitbcv1.CoordinatorMessage_Assignments{
		Assignments: &aitbcv1.Assignments{Assignments: all},
	}}
}

// clock is later each time: nothing waits for company.
var clock = time.Now()

// told returns the next updates, as soon as there are some.
func told(t *testing.T, a *agent) []*aitbcv1.Update {
	t.Helper()
	for {
		clock = clock.Add(time.Hour)
		message, wait := a.message(clock)
		if message != nil {
			return message.GetUpdates().GetUpdates()
		}
		if wait >= 0 {
			t.Fatalf("waits %v", wait)
		}
		select {
		case <-a.wake:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing is told")
		}
	}
}

// waitForEnd returns when the job has its answer.
func waitForEnd(a *agent) {
	for isEnded := false; !isEnded; {
		<-a.wake
		a.mu.Lock()
		isEnded = a.leases["lease"].isEnded()
		a.mu.Unlock()
	}
}

func welcome(next int64) *aitbcv1.Welcome {
	return &aitbcv1.Welcome{Acks: []*aitbcv1.Ack{{LeaseId: "lease", NextSequence: next}}}
}

func TestTellsAgainFromWhereItIsAsked(t *testing.T) {
	a, answer, end := spoken(t, nil)
	answer.Say("one ", 1)
	told(t, a)
	answer.Say("two ", 1)
	told(t, a)
	answer.Say("three", 1)
	end <- nil
	waitForEnd(a)
	updates := told(t, a)
	if len(updates) != 2 || updates[0].GetDelta().GetText() != "three" || updates[1].GetCompletion().GetResult() != "one two three" {
		t.Fatal(updates)
	}

	a.welcome(welcome(1))
	updates = told(t, a)
	if len(updates) != 2 || updates[0].GetSequence() != 1 || updates[0].GetDelta().GetText() != "two three" ||
		updates[0].GetDelta().GetTokens() != 2 || updates[1].GetSequence() != 2 {
		t.Fatal(updates)
	}
	a.welcome(welcome(3))
	if len(a.leases) != 0 {
		t.Error("a lease that is settled is held")
	}
}

func TestAShortAnswerIsItsCompletionAlone(t *testing.T) {
	a, answer, end := spoken(t, nil)
	answer.Say("all", 1)
	end <- nil
	waitForEnd(a)
	updates := told(t, a)
	if len(updates) != 1 || updates[0].GetCompletion().GetResult() != "all" {
		t.Fatal(updates)
	}
}

func TestGoesOnAfterWhatAnAttemptBeforeSaid(t *testing.T) {
	a, answer, end := spoken(t, &aitbcv1.Resume{Text: "one ", Tokens: 1})
	if text, tokens := answer.Resume(); text != "one " || tokens != 1 {
		t.Fatal(text, tokens)
	}
	answer.Say("two", 1)
	updates := told(t, a)
	if len(updates) != 1 || updates[0].GetSequence() != 1 || updates[0].GetDelta().GetText() != "two" {
		t.Fatal(updates)
	}
	// The coordinator may ask for number 0 all the same.
	a.welcome(welcome(0))
	updates = told(t, a)
	if len(updates) != 1 || updates[0].GetSequence() != 0 || updates[0].GetDelta().GetText() != "one two" {
		t.Fatal(updates)
	}
	end <- nil
	if done := told(t, a)[0].GetCompletion(); done.GetResult() != "one two" || done.GetUsage().GetCompletionTokens() != 2 {
		t.Fatal(done)
	}
}

func TestCharactersAreNotCut(t *testing.T) {
	a, answer, end := spoken(t, nil)
	euro := "€"
	answer.Say(euro[:1], 0)
	answer.Say(euro[1:2], 0)
	answer.Say(euro[2:]+"\xff!", 1)
	answer.Say(euro[:2], 0)
	end <- nil
	var text strings.Builder
	for {
		for _, update := range told(t, a) {
			text.WriteString(update.GetDelta().GetText())
			if done := update.GetCompletion(); done != nil {
				if done.GetResult() != "€\uFFFD!\uFFFD" {
					t.Fatalf("%q", done.GetResult())
				}
				return
			}
		}
	}
}

func TestAnAnswerThatIsTooLargeIsAFailure(t *testing.T) {
	for _, most := range []*aitbcv1.Welcome{{MaxResultBytes: 10}, {MaxMessageBytes: 2000, MaxResultBytes: 9000}} {
		a, answer, end := spoken(t, nil)
		a.welcome(most)
		answer.Say(strings.Repeat("a", 4000), 1)
		updates := told(t, a)
		if failure := updates[0].GetFailure(); len(updates) != 1 || updates[0].GetSequence() != 0 ||
			failure.GetCode() != "RESULT_TOO_LARGE" || failure.GetFault() != aitbcv1.Fault_FAULT_JOB {
			t.Fatal(updates)
		}
		end <- nil
	}
}

func TestRefusesWhatItCannotTake(t *testing.T) {
	a, _, end := spoken(t, nil)
	a.hear(assignments(
		&aitbcv1.Assignment{LeaseId: "other", Job: &aitbcv1.Job{Model: "other"}},
		&aitbcv1.Assignment{LeaseId: "second", Job: &aitbcv1.Job{Model: "m"}},
	))
	codes := map[string]string{}
	for _, update := range told(t, a) {
		codes[update.GetLeaseId()] = update.GetFailure().GetCode()
	}
	if codes["other"] != "MODEL_NOT_SERVED" || codes["second"] != "OVER_CAPACITY" {
		t.Error(codes)
	}
	end <- nil
}

func TestAPanicFailsItsJobAlone(t *testing.T) {
	a := newAgent(&Miner{ID: "m", Models: []string{"m"}}, EngineFunc(func(context.Context, *Job, *Answer) error { panic("secret") }))
	a.hear(assignments(&aitbcv1.Assignment{LeaseId: "lease", Job: &aitbcv1.Job{Model: "m"}}))
	failure := told(t, a)[0].GetFailure()
	if failure.GetCode() != "ENGINE_FAILED" || !failure.GetRetryable() || strings.Contains(failure.GetMessage(), "secret") {
		t.Error(failure)
	}
}

func TestMessagesStayBelowWhatTheCoordinatorTakes(t *testing.T) {
	box := outbox{mostBytes: 4300}
	for _, id := range []string{"a", "b", "c"} {
		one := &lease{id: id, completion: &aitbcv1.Completion{Result: strings.Repeat("x", 1500)}}
		box.put(one, true)
	}
	var counts []int
	for {
		updates, _ := box.take(time.Now(), func(*lease) { t.Fatal("too large") })
		if len(updates) == 0 {
			break
		}
		counts = append(counts, len(updates))
	}
	if len(counts) != 2 || counts[0] != 2 || counts[1] != 1 {
		t.Error(counts)
	}
}
