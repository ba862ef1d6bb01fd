package miner

import (
	"time"

	aitbcv1 "aitbc/v1"

	"google.golang.org/protobuf/types/known/durationpb"
)

// Failure is why an engine has no answer. Its fault decides what becomes of the job.
type Failure struct {
	// Code is an UPPER_SNAKE reason, for programs.
	Code string
	// Message is a sentence. That of a Refusal is for the job's client; any other is shown to operators, and
	// has no part of a prompt.
	Message string
	Fault   aitbcv1.Fault
	// RetryAfter is for how long the engine wants no job of the model.
	RetryAfter time.Duration
}

func (f *Failure) Error() string { return f.Message + " (" + f.Code + ")" }

// Refusal is the failure of a job that no miner can answer. The message begins with the field that is
// wrong, such as "logit_bias: ".
func Refusal(message string) *Failure {
	return &Failure{Code: "BAD_REQUEST", Message: message, Fault: aitbcv1.Fault_FAULT_JOB}
}

// Unusable is the failure of an engine that can serve no job at present: another miner gets it.
func Unusable(message string) *Failure {
	return &Failure{Code: "ENGINE_UNUSABLE", Message: message, Fault: aitbcv1.Fault_FAULT_MINER}
}

// Passing is a failure that may not come again: the job is tried again while it has attempts.
func Passing(message string) *Failure {
	return &Failure{Code: "ENGINE_FAILED", Message: message, Fault: aitbcv1.Fault_FAULT_PASSING}
}

var (
	cancelled      = &Failure{Code: "CANCELLED", Message: "the job was cancelled"}
	stopped        = &Failure{Code: "MINER_STOPPED", Message: "the miner was stopped", Fault: aitbcv1.Fault_FAULT_PASSING}
	overCapacity   = &Failure{Code: "OVER_CAPACITY", Message: "this miner takes no more jobs at once", Fault: aitbcv1.Fault_FAULT_PASSING}
	notServed      = &Failure{Code: "MODEL_NOT_SERVED", Message: "this miner does not serve the model", Fault: aitbcv1.Fault_FAULT_MINER}
	resultTooLarge = &Failure{Code: "RESULT_TOO_LARGE", Message: "the answer is larger than the coordinator takes", Fault: aitbcv1.Fault_FAULT_JOB}
)

const longestMessage = 1024

func (f *Failure) message() *aitbcv1.Failure {
	text := []rune(f.Message)
	if len(text) > longestMessage {
		text = text[:longestMessage]
	}
	told := &aitbcv1.Failure{
		Code: f.Code, Message: string(text), Fault: f.Fault,
		Retryable: f.Fault == aitbcv1.Fault_FAULT_MINER || f.Fault == aitbcv1.Fault_FAULT_PASSING,
	}
	if f.RetryAfter > 0 {
		told.RetryAfter = durationpb.New(f.RetryAfter)
	}
	return told
}
