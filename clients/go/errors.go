package aitbc

import (
	"context"
	"errors"
	"fmt"
	"time"

	aitbcv1 "aitbc/v1"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is what every failed call returns.
//
//	var failure *aitbc.Error
//	if errors.As(err, &failure) && failure.Code == "JOB_NOT_FOUND" { ... }
//
// One whose time was over is context.DeadlineExceeded for errors.Is, and one that was given up
// context.Canceled.
type Error struct {
	// Code is the coordinator's error_code, such as JOB_NOT_FOUND; where no coordinator answered, gRPC's:
	// UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED.
	Code string
	// Message is a sentence for people.
	Message string
	// Field is the path of the field that is wrong, such as params.max_tokens.
	Field string
	// RetryDelay is the time after which the same call may succeed. Zero where nothing is said.
	RetryDelay time.Duration

	status *status.Status
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// GRPCStatus returns the status of the call.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Is compares with the errors of a Context.
func (e *Error) Is(target error) bool {
	switch e.status.Code() {
	case codes.DeadlineExceeded:
		return target == context.DeadlineExceeded
	case codes.Canceled:
		return target == context.Canceled
	}
	return false
}

// mayPass says whether the same call may succeed when it is made again.
func (e *Error) mayPass() bool {
	switch e.status.Code() {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		return e.RetryDelay > 0
	}
	return false
}

// ErrorOf turns the error of a generated client into an *Error, and nil into nil.
func ErrorOf(err error) error {
	if failure := errorOf(err); failure != nil {
		return failure
	}
	return nil
}

func errorOf(err error) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	told := status.Convert(err)
	failure := &Error{Code: code.Code_name[int32(told.Code())], Message: told.Message(), status: told}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Code = detail.GetReason()
		case *errdetails.RetryInfo:
			failure.RetryDelay = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				failure.Field = violations[0].GetField()
			}
		}
	}
	return failure
}

// JobError says that a job ended without a result.
type JobError struct {
	// Job is the job, failed or cancelled. Its Error says why.
	Job *aitbcv1.Job
}

func (e *JobError) Error() string {
	why := e.Job.GetError()
	return fmt.Sprintf("job %s has no result: %s (%s)", e.Job.GetJobId(), why.GetMessage(), why.GetCode())
}
