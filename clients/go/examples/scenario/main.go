// What clients/SCENARIO.md says, step by step.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log"
	"os"
	"strings"
	"time"

	"aitbc"
	aitbcv1 "aitbc/v1"

	"google.golang.org/protobuf/proto"
)

const (
	short   = "One two three"
	nowhere = "served-by-nobody"
)

var (
	coordinator = os.Getenv("AITBC_COORDINATOR")
	model       = os.Getenv("AITBC_MODEL")
	long        = strings.TrimSpace(strings.Repeat("Grüße aus 東京, 🙂! ", 60))
)

func main() {
	ctx := context.Background()
	client := dial(os.Getenv("AITBC_API_KEY"))
	defer client.Close()

	request := &aitbcv1.SubmitJobRequest{Prompt: proto.String(short), Model: model, RequestId: "scenario"}
	submitted, err := client.Submit(ctx, request)
	must(err)
	say(line{"step": "submit", "status": submitted.GetStatus().String()})

	job, err := client.Wait(ctx, submitted.GetJobId())
	must(err)
	say(line{"step": "wait", "status": job.GetStatus().String(), "result": job.GetResult()})

	again, err := client.Submit(ctx, request)
	must(err)
	say(line{"step": "same request id", "is_same_job": again.GetJobId() == submitted.GetJobId()})
	_, err = client.Submit(ctx, &aitbcv1.SubmitJobRequest{
		Prompt: proto.String("another"), Model: model, RequestId: "scenario",
	})
	refused("request id of another", err)

	streamed, err := client.Submit(ctx, &aitbcv1.SubmitJobRequest{Prompt: proto.String(long), Model: model})
	must(err)
	stream(ctx, client, streamed.GetJobId())

	list(ctx, client)

	unserved, err := client.Submit(ctx, &aitbcv1.SubmitJobRequest{Prompt: proto.String(short), Model: nowhere})
	must(err)
	soon, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = client.Wait(soon, unserved.GetJobId())
	refused("deadline", err)

	job, err = client.Cancel(ctx, unserved.GetJobId())
	must(err)
	say(line{"step": "cancel", "status": job.GetStatus().String()})
	_, err = client.Cancel(ctx, unserved.GetJobId())
	refused("cancel again", err)

	_, err = client.Submit(ctx, &aitbcv1.SubmitJobRequest{
		Prompt: proto.String(short), Model: model, Params: &aitbcv1.GenerationParams{MaxTokens: proto.Int32(0)},
	})
	refused("bad request", err)

	stranger := dial("wrong")
	defer stranger.Close()
	_, err = stranger.Get(ctx, submitted.GetJobId())
	refused("wrong key", err)

	spent := dial(os.Getenv("AITBC_SPENT_KEY"))
	defer spent.Close()
	_, err = spent.Submit(ctx, &aitbcv1.SubmitJobRequest{Prompt: proto.String(short), Model: model})
	refused("spent key", err)
}

// stream reads a job while the coordinator is killed, and once more from the middle.
func stream(ctx context.Context, client *aitbc.Client, jobID string) {
	events := client.Stream(ctx, jobID, "")
	defer events.Close()
	var text, first, firstID string
	var status aitbcv1.JobStatus
	restarts := 0
	for events.Next() {
		event := events.Event()
		switch event.GetType() {
		case aitbcv1.JobEventType_JOB_EVENT_TYPE_DELTA:
			if text == "" {
				first, firstID = event.GetText(), event.GetEventId()
				say(line{"step": "first delta"})
			}
			text += event.GetText()
		case aitbcv1.JobEventType_JOB_EVENT_TYPE_RESTARTED:
			restarts++
		case aitbcv1.JobEventType_JOB_EVENT_TYPE_FINAL:
			status = event.GetJob().GetStatus()
		}
	}
	must(events.Err())
	say(line{"step": "stream", "is_whole": text == long, "restarts": restarts, "status": status.String()})

	rest := first
	events = client.Stream(ctx, jobID, firstID)
	defer events.Close()
	for events.Next() {
		rest += events.Event().GetText()
	}
	must(events.Err())
	say(line{"step": "rest of the stream", "is_whole": rest == long})
}

func list(ctx context.Context, client *aitbc.Client) {
	jobs := client.Jobs(ctx, &aitbcv1.ListJobsRequest{Model: model, Limit: proto.Int32(1)})
	var prompts []string
	for jobs.Next() {
		prompts = append(prompts, string([]rune(jobs.Job().GetPrompt())[:5]))
	}
	must(jobs.Err())
	say(line{"step": "list", "prompts": prompts})
}

func dial(key string) *aitbc.Client {
	options := []aitbc.Option{aitbc.WithKey(key)}
	if file := os.Getenv("AITBC_TLS_CA"); file != "" {
		authority, err := os.ReadFile(file)
		must(err)
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(authority)
		options = append(options, aitbc.WithTLS(&tls.Config{RootCAs: trusted}))
	}
	client, err := aitbc.Dial(coordinator, options...)
	must(err)
	return client
}

type line map[string]interface{}

func say(what line) { must(json.NewEncoder(os.Stdout).Encode(what)) }

func refused(step string, err error) {
	var failure *aitbc.Error
	if !errors.As(err, &failure) {
		log.Fatalf("%s: %v", step, err)
	}
	told := line{"step": step, "error_code": failure.Code, "has_delay": failure.RetryDelay > 0}
	if failure.Field != "" {
		told["field"] = failure.Field
	}
	say(told)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
