// Package miner makes a miner of an engine: it holds the Work stream to a coordinator, runs the jobs that
// come, tells their answers as they are made, and keeps each until it is stored.
//
//	m := miner.Miner{ID: "my-miner", Models: []string{"llama3.2"}, Coordinator: "127.0.0.1:50051"}
//	err := m.Run(ctx, engine)
package miner

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"aitbc"
	aitbcv1 "aitbc/v1"
)

// Version is what miners say of their program, unless they say it themselves.
const Version = "aitbc-go/1"

// ErrSuperseded says that another process opened a session under the miner's id.
var ErrSuperseded = errors.New("another process works under this miner id: give each its own")

// ErrHandedBack says that jobs were still running when DrainTimeout was over.
var ErrHandedBack = errors.New("unfinished jobs were handed back")

// Engine answers jobs. Its method is called for several at once, at most Slots.
type Engine interface {
	// Answer says the answer to a job and returns nil, or why there is none: a *Failure, or any other error,
	// whose text nobody but the miner's log sees. The Context ends when the answer is not wanted any more.
	Answer(ctx context.Context, job *Job, answer *Answer) error
}

// EngineFunc is a function as an Engine.
type EngineFunc func(ctx context.Context, job *Job, answer *Answer) error

// Answer calls the function.
func (f EngineFunc) Answer(ctx context.Context, job *Job, answer *Answer) error {
	return f(ctx, job, answer)
}

// Job is what an engine is asked.
type Job struct {
	*aitbcv1.Job
	// Attempt is the number of the attempt, from 1.
	Attempt int
	// Deadline is when the job fails unless final. Zero: never.
	Deadline time.Time
}

// Miner says who the miner is and what it serves.
type Miner struct {
	// ID is the miner's, kept over restarts. Required.
	ID string
	// Models are those it serves. Required.
	Models []string
	// Coordinator is HOST:PORT of the gRPC port. Required.
	Coordinator string
	// Options are those of the connection: aitbc.WithKey, aitbc.WithTLS.
	Options []aitbc.Option
	// Slots is how many jobs it takes at once. 1 by default.
	Slots int
	// Key signs the results. Without it they are not signed.
	Key ed25519.PrivateKey
	// PreviousKey is the key that the miner registered before, where it has another one now.
	PreviousKey ed25519.PrivateKey
	// ModelInfos say what its models do beside generating, and how long a prompt may be.
	ModelInfos []*aitbcv1.ModelInfo
	// GPU is what it runs on.
	GPU *aitbcv1.GpuInfo
	// Version is the name and version of its program.
	Version string
	// DrainTimeout is how long jobs may run on after the Context of Run has ended. Zero: to their end.
	DrainTimeout time.Duration
	// Logf is told what an operator should know: nothing of a job's texts. Nil: nobody is.
	Logf func(format string, arguments ...interface{})
}

// Run works until ctx ends; then it takes nothing new, finishes what it runs, and returns nil. It connects
// again whenever the stream is lost. It returns an error when going on makes no sense: ErrSuperseded,
// ErrHandedBack, or an *aitbc.Error that says what is wrong with the miner.
func (m *Miner) Run(ctx context.Context, engine Engine) error {
	if m.ID == "" || m.Coordinator == "" || len(m.Models) == 0 {
		return errors.New("miner: ID, Coordinator and Models are required")
	}
	if m.Slots < 0 {
		return fmt.Errorf("miner: %d slots", m.Slots)
	}
	a := newAgent(m, engine)
	// Sessions outlive ctx, until all is told.
	lifetime, leave := context.WithCancel(context.Background())
	defer leave()
	handedBack := make(chan bool, 1)
	go func() {
		defer leave()
		select {
		case <-ctx.Done():
			handedBack <- m.drain(a)
		case <-lifetime.Done():
		}
	}()
	if err := m.holdSessions(lifetime, a); err != nil {
		a.abandon()
		return err
	}
	if <-handedBack {
		return ErrHandedBack
	}
	return nil
}

// handBackTime is for telling the coordinator of leases that are handed back.
const handBackTime = 10 * time.Second

// drain returns when nothing is held any more; whether jobs had to be handed back.
func (m *Miner) drain(a *agent) bool {
	m.logf("draining")
	idle := a.drain()
	if m.DrainTimeout == 0 {
		<-idle
		return false
	}
	if within(idle, m.DrainTimeout) || !a.handBack() {
		return false
	}
	within(idle, handBackTime)
	return true
}

func within(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// holdSessions opens one session after the other until the Context ends, or one shows that none will do.
func (m *Miner) holdSessions(ctx context.Context, a *agent) error {
	var pause backoff
	for ctx.Err() == nil {
		isWelcomed, err := m.session(ctx, a)
		if ctx.Err() != nil {
			break
		}
		var failure *aitbc.Error
		if errors.As(err, &failure) {
			switch failure.Code {
			case "SESSION_SUPERSEDED":
				return ErrSuperseded
			case "INVALID_ARGUMENT":
				return err
			}
		}
		if isWelcomed {
			pause = backoff{}
		}
		wait := pause.next()
		if failure != nil && wait < failure.RetryDelay {
			wait = failure.RetryDelay
		}
		m.logf("session lost: %v; next in %v", err, wait.Round(time.Millisecond))
		within(ctx.Done(), wait)
	}
	return nil
}

func (m *Miner) logf(format string, arguments ...interface{}) {
	if m.Logf != nil {
		m.Logf(format, arguments...)
	}
}
