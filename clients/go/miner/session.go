package miner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"aitbc"
	aitbcv1 "aitbc/v1"

	"google.golang.org/grpc"
)

const (
	// patience is for a coordinator that has not said yet how often it speaks.
	patience = 30 * time.Second
	// partingTime is for the coordinator to end the stream after the miner's goodbye.
	partingTime = 2 * time.Second
	// nonceTime is for it to say what to sign.
	nonceTime = 5 * time.Second
)

var errSilent = errors.New("the coordinator is silent")

// session is one stream to the coordinator, from Hello to its end.
type session struct {
	agent  *agent
	stream aitbcv1.MinerService_WorkClient
	// welcomed is closed when Welcome was heard, which says the interval.
	welcomed chan struct{}
	interval time.Duration
	// silence ends the stream when nothing was heard for too long.
	silence  *time.Timer
	patience time.Duration
}

// session works until the stream or the Context ends, and returns why; and whether it got its Welcome.
func (m *Miner) session(lifetime context.Context, a *agent) (isWelcomed bool, err error) {
	conn, err := aitbc.Connect(m.Coordinator, m.Options...)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := aitbcv1.NewMinerServiceClient(conn).Work(ctx, grpc.WaitForReady(false))
	if err != nil {
		return false, aitbc.ErrorOf(err)
	}
	silent := make(chan struct{})
	s := &session{agent: a, stream: stream, welcomed: make(chan struct{}), patience: patience}
	s.silence = time.AfterFunc(patience, func() {
		close(silent)
		cancel()
	})
	defer s.silence.Stop()

	ended, read := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(read)
		ended <- s.read()
	}()
	// Nothing is heard of this session once the next one begins.
	defer func() {
		cancel()
		<-read
	}()
	err = s.write(lifetime, ended)
	select {
	case <-silent:
		err = errSilent
	default:
	}
	select {
	case <-s.welcomed:
		isWelcomed = true
	default:
	}
	return isWelcomed, err
}

func (s *session) read() error {
	for {
		message, err := s.stream.Recv()
		if err == io.EOF {
			return errors.New("the coordinator closed the stream")
		}
		if err != nil {
			return aitbc.ErrorOf(err)
		}
		s.silence.Reset(s.patience)
		switch {
		case message.GetWelcome() != nil:
			if err := s.welcome(message.GetWelcome()); err != nil {
				return err
			}
		case message.GetDrain() != nil:
			s.agent.miner.logf("the coordinator drains")
		default:
			s.agent.hear(message)
		}
	}
}

func (s *session) welcome(welcome *aitbcv1.Welcome) error {
	select {
	case <-s.welcomed:
		return errors.New("a second Welcome")
	default:
	}
	s.interval = welcome.GetHeartbeatInterval().AsDuration()
	if s.interval <= 0 {
		s.interval = patience
	}
	s.patience = 3 * s.interval
	if duration := welcome.GetLeaseDuration().AsDuration(); duration > s.patience {
		s.patience = duration
	}
	s.silence.Reset(s.patience)
	s.agent.welcome(welcome)
	s.agent.miner.logf("session began")
	close(s.welcomed)
	return nil
}

// write says what there is to say until the reader ended, and returns why it did; when the miner leaves, it
// says goodbye.
func (s *session) write(lifetime context.Context, ended <-chan error) error {
	nonce, err := s.nonce(ended)
	if err != nil {
		return err
	}
	if err := s.send(s.agent.greeting(nonce), ended); err != nil {
		return err
	}
	spokeAt := time.Now()
	select {
	case <-s.welcomed:
	case err := <-ended:
		return err
	case <-lifetime.Done():
		return nil
	}
	for {
		message, wait := s.agent.message(time.Now())
		if message == nil {
			rest := time.Until(spokeAt.Add(s.interval))
			if rest > 0 {
				if wait < 0 || wait > rest {
					wait = rest
				}
				timer := time.NewTimer(wait)
				select {
				case <-s.agent.wake:
				case <-timer.C:
				case err := <-ended:
					timer.Stop()
					return err
				case <-lifetime.Done():
					timer.Stop()
					return s.part(ended)
				}
				timer.Stop()
				continue
			}
			message = s.agent.heartbeat()
		}
		if err := s.send(message, ended); err != nil {
			return err
		}
		spokeAt = time.Now()
	}
}

// send sends a message. When the stream has ended, the reader knows why.
func (s *session) send(message *aitbcv1.MinerMessage, ended <-chan error) error {
	if err := s.stream.Send(message); err != nil {
		if err == io.EOF {
			return <-ended
		}
		return fmt.Errorf("cannot send: %w", aitbc.ErrorOf(err))
	}
	return nil
}

func (s *session) part(ended <-chan error) error {
	if err := s.stream.CloseSend(); err != nil {
		return aitbc.ErrorOf(err)
	}
	timer := time.NewTimer(partingTime)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
	return nil
}

// nonce returns what the coordinator gives to sign; empty where it gives nothing, or nothing is signed.
func (s *session) nonce(ended <-chan error) (string, error) {
	if s.agent.signer == nil {
		return "", nil
	}
	header := make(chan string, 1)
	go func() {
		metadata, _ := s.stream.Header()
		given := metadata.Get("aitbc-nonce")
		header <- append(given, "")[0]
	}()
	timer := time.NewTimer(nonceTime)
	defer timer.Stop()
	select {
	case nonce := <-header:
		return nonce, nil
	case err := <-ended:
		return "", err
	case <-timer.C:
		return "", nil // an older coordinator says nothing before Hello
	}
}
