package aitbc

import (
	"context"
	"errors"
	"io"
	"time"

	aitbcv1 "aitbc/v1"
)

// Stream reads what a job produced so far, then the rest as it is made, and its end.
//
//	stream := client.Stream(ctx, jobID, "")
//	defer stream.Close()
//	for stream.Next() {
//		fmt.Print(stream.Event().GetText())
//	}
//	if err := stream.Err(); err != nil { ... }
//
// It connects again where it was when the connection is lost. One goroutine reads it.
type Stream struct {
	client *Client
	ctx    context.Context
	cancel context.CancelFunc
	jobID  string
	// after is the id of the last event that was read.
	after string
	call  aitbcv1.JobService_StreamJobClient
	event *aitbcv1.JobEvent
	err   error
	over  bool
}

// Stream reads a job. A reader that comes back gives the EventId of the last event that it has; one that
// begins gives "".
func (c *Client) Stream(ctx context.Context, jobID, afterEventID string) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	return &Stream{client: c, ctx: ctx, cancel: cancel, jobID: jobID, after: afterEventID}
}

// Next waits for the next event. It is false after the last one, and after an error.
func (s *Stream) Next() bool {
	for !s.over {
		begins := s.call == nil
		event, err := s.receive()
		switch {
		case err == nil:
			s.event, s.after = event, event.GetEventId()
			s.over = event.GetType() == aitbcv1.JobEventType_JOB_EVENT_TYPE_FINAL
			return true
		case errors.Is(err, io.EOF):
			// At once: there is nothing after the event that the reader has.
			s.over = begins
		default:
			if failure := errorOf(err); begins || !failure.mayPass() {
				s.err, s.over = failure, true
			}
		}
		s.call = nil
	}
	s.cancel()
	return false
}

// Event returns the event that Next found.
func (s *Stream) Event() *aitbcv1.JobEvent { return s.event }

// Err returns the *Error that ended the stream; nil after the job's end.
func (s *Stream) Err() error { return s.err }

// Close ends the stream. Next is false from then on.
func (s *Stream) Close() {
	s.over = true
	s.cancel()
}

// receive returns the next event of the call under way, or the first one of a new call.
func (s *Stream) receive() (*aitbcv1.JobEvent, error) {
	if s.call != nil {
		return s.call.Recv()
	}
	var event *aitbcv1.JobEvent
	ended := false
	until := time.Now().Add(s.client.patience)
	err := retry(s.ctx, until, func(ctx context.Context) (err error) {
		request := &aitbcv1.StreamJobRequest{JobId: s.jobID, AfterEventId: s.after}
		if s.call, err = s.client.jobs.StreamJob(ctx, request); err != nil {
			return err
		}
		// The first event comes at once, and shows that the call was taken.
		event, err = s.call.Recv()
		if err == io.EOF {
			ended = true
			return nil
		}
		return err
	})
	if ended {
		return nil, io.EOF
	}
	return event, err
}
