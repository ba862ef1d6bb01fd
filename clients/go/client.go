// Package aitbc is a client of an AITBC coordinator.
//
//	client, err := aitbc.Dial("127.0.0.1:50051", aitbc.WithKey(key))
//	submitted, err := client.Submit(ctx, &aitbcv1.SubmitJobRequest{Model: "llama3.2", Prompt: &prompt})
//	job, err := client.Wait(ctx, submitted.JobId)
//
// Messages are those of package aitbc/v1, which is generated from the protos. Every error of a call is an
// *Error. Calls are repeated while that may help: see WithPatience. A Context's deadline bounds all of it.
package aitbc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	aitbcv1 "aitbc/v1"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// longestHold is how long the coordinator holds a call that waits for a job's end.
const longestHold = 60 * time.Second

// Client calls a coordinator. Goroutines may share it.
type Client struct {
	conn     *grpc.ClientConn
	jobs     aitbcv1.JobServiceClient
	patience time.Duration
}

// Dial returns a client of the coordinator whose gRPC port is at target, HOST:PORT. It connects when the
// first call is made.
func Dial(target string, options ...Option) (*Client, error) {
	conn, err := Connect(target, options...)
	if err != nil {
		return nil, err
	}
	settings := settingsOf(options)
	return &Client{conn: conn, jobs: aitbcv1.NewJobServiceClient(conn), patience: settings.patience}, nil
}

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.conn.Close() }

// Conn returns the connection, for the generated clients of other services. What they return is turned
// into an *Error by ErrorOf.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Submit stores a job. It gives the request an id where it has none, so that repeating it finds the job
// that was stored first.
func (c *Client) Submit(ctx context.Context, request *aitbcv1.SubmitJobRequest) (*aitbcv1.SubmitJobResponse, error) {
	if request.GetRequestId() == "" {
		request = proto.Clone(request).(*aitbcv1.SubmitJobRequest)
		request.RequestId = randomID()
	}
	var response *aitbcv1.SubmitJobResponse
	err := c.call(ctx, 0, func(ctx context.Context) (err error) {
		response, err = c.jobs.SubmitJob(ctx, request)
		return err
	})
	return response, err
}

// Get returns a job.
func (c *Client) Get(ctx context.Context, jobID string) (*aitbcv1.Job, error) {
	return c.get(ctx, jobID, 0)
}

// Wait returns a job when it is final, however it ended.
func (c *Client) Wait(ctx context.Context, jobID string) (*aitbcv1.Job, error) {
	for {
		job, err := c.get(ctx, jobID, longestHold)
		if err != nil || IsFinal(job.GetStatus()) {
			return job, err
		}
	}
}

// Run submits a job and returns it completed. One that failed or was cancelled is a *JobError.
func (c *Client) Run(ctx context.Context, request *aitbcv1.SubmitJobRequest) (*aitbcv1.Job, error) {
	submitted, err := c.Submit(ctx, request)
	if err != nil {
		return nil, err
	}
	job, err := c.Wait(ctx, submitted.GetJobId())
	if err == nil && job.GetStatus() != aitbcv1.JobStatus_JOB_STATUS_COMPLETED {
		err = &JobError{Job: job}
	}
	return job, err
}

// Cancel cancels a job. One that is final is an *Error of code JOB_ALREADY_FINAL.
func (c *Client) Cancel(ctx context.Context, jobID string) (*aitbcv1.Job, error) {
	var job *aitbcv1.Job
	err := c.call(ctx, 0, func(ctx context.Context) (err error) {
		job, err = c.jobs.CancelJob(ctx, &aitbcv1.CancelJobRequest{JobId: jobID})
		return err
	})
	return job, err
}

// Delete deletes a job that is final, with its prompt and its answer.
func (c *Client) Delete(ctx context.Context, jobID string) error {
	return c.call(ctx, 0, func(ctx context.Context) error {
		_, err := c.jobs.DeleteJob(ctx, &aitbcv1.DeleteJobRequest{JobId: jobID})
		return err
	})
}

// IsFinal says whether a job of this status changes no more.
func IsFinal(status aitbcv1.JobStatus) bool {
	switch status {
	case aitbcv1.JobStatus_JOB_STATUS_COMPLETED,
		aitbcv1.JobStatus_JOB_STATUS_FAILED,
		aitbcv1.JobStatus_JOB_STATUS_CANCELLED:
		return true
	}
	return false
}

func (c *Client) get(ctx context.Context, jobID string, hold time.Duration) (*aitbcv1.Job, error) {
	request := &aitbcv1.GetJobRequest{JobId: jobID}
	if hold > 0 {
		request.Wait = proto.Float64(hold.Seconds())
	}
	var job *aitbcv1.Job
	err := c.call(ctx, hold, func(ctx context.Context) (err error) {
		job, err = c.jobs.GetJob(ctx, request)
		return err
	})
	return job, err
}

// call makes a call whose answer may be held for some time, and repeats it while that may help.
func (c *Client) call(ctx context.Context, hold time.Duration, method func(context.Context) error) error {
	until := time.Now().Add(c.patience + hold)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return retry(ctx, until, method)
}

func randomID() string {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic(fmt.Sprintf("aitbc: no random numbers: %v", err))
	}
	return hex.EncodeToString(id)
}
