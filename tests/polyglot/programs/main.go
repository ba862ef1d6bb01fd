// Submits a job, waits for its result and prints it, then why another job is not found.
// Usage: main HOST:PORT PROMPT SERVICE_CONFIG
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	aitbcv1 "aitbc/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func main() {
	config, err := os.ReadFile(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithDefaultServiceConfig(string(config)))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	jobs := aitbcv1.NewJobServiceClient(conn)
	submitted, err := jobs.SubmitJob(ctx, &aitbcv1.SubmitJobRequest{
		Prompt: proto.String(os.Args[2]),
		Model:  "llama3.2",
	})
	if err != nil {
		log.Fatal(err)
	}
	job, err := jobs.GetJob(ctx, &aitbcv1.GetJobRequest{JobId: submitted.JobId, Wait: proto.Float64(60)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.GetResult())
	_, err = jobs.GetJob(ctx, &aitbcv1.GetJobRequest{JobId: "job-nope"})
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Println(info.Reason)
		}
	}
}
