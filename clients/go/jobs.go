package aitbc

import (
	"context"

	aitbcv1 "aitbc/v1"

	"google.golang.org/protobuf/proto"
)

// Jobs lists the caller's jobs, the newest first, a page at a time.
//
//	jobs := client.Jobs(ctx, &aitbcv1.ListJobsRequest{Model: "llama3.2"})
//	for jobs.Next() {
//		fmt.Println(jobs.Job().GetJobId())
//	}
//	if err := jobs.Err(); err != nil { ... }
type Jobs struct {
	client  *Client
	ctx     context.Context
	request *aitbcv1.ListJobsRequest
	page    []*aitbcv1.Job
	job     *aitbcv1.Job
	isLast  bool
	err     error
}

// Jobs lists the jobs that the request asks for, from its page on. Its Limit is the size of a page.
func (c *Client) Jobs(ctx context.Context, request *aitbcv1.ListJobsRequest) *Jobs {
	request = proto.Clone(request).(*aitbcv1.ListJobsRequest)
	return &Jobs{client: c, ctx: ctx, request: request}
}

// Next goes to the next job. It is false after the last one, and after an error.
func (j *Jobs) Next() bool {
	for len(j.page) == 0 {
		if j.isLast || j.err != nil {
			return false
		}
		j.err = j.client.call(j.ctx, 0, func(ctx context.Context) error {
			response, err := j.client.jobs.ListJobs(ctx, j.request)
			j.page = response.GetJobs()
			j.request.PageToken = response.GetNextPageToken()
			return err
		})
		j.isLast = j.request.PageToken == ""
	}
	j.job, j.page = j.page[0], j.page[1:]
	return true
}

// Job returns the job that Next found.
func (j *Jobs) Job() *aitbcv1.Job { return j.job }

// Err returns the *Error that ended the list; nil after the last job.
func (j *Jobs) Err() error { return j.err }
