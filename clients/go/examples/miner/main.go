// A miner whose engine answers with the prompt, word by word.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"aitbc"
	"aitbc/miner"
)

func echo(ctx context.Context, job *miner.Job, answer *miner.Answer) error {
	for _, word := range strings.SplitAfter(job.GetPrompt(), " ") {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
			answer.Say(word, 1)
		}
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	key, err := miner.LoadKey("echo-miner.pem")
	if err != nil {
		log.Fatal(err)
	}
	m := miner.Miner{
		ID:          "echo-miner",
		Models:      []string{"llama3.2"},
		Coordinator: os.Getenv("AITBC_COORDINATOR"),
		Options:     []aitbc.Option{aitbc.WithKey(os.Getenv("AITBC_API_KEY"))},
		Slots:       100,
		Key:         key,
		Logf:        log.Printf,
	}
	if err := m.Run(ctx, miner.EngineFunc(echo)); err != nil {
		log.Fatal(err)
	}
}
