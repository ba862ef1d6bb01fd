package aitbc

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	defaultPatience = 30 * time.Second
	// MaxMessageBytes is the largest message that a connection takes.
	MaxMessageBytes = 64 << 20
)

// Option says how to reach a coordinator.
type Option func(*settings)

type settings struct {
	key      string
	tls      *tls.Config
	patience time.Duration
	dial     []grpc.DialOption
}

// WithKey sends an API key with each call.
func WithKey(key string) Option { return func(s *settings) { s.key = key } }

// WithTLS encrypts. An empty config trusts the system's authorities.
func WithTLS(config *tls.Config) Option { return func(s *settings) { s.tls = config } }

// WithPatience says for how long a call is made again while the coordinator is away, drains, or says when
// to come back: 30 seconds by default. After that time a call is given up, too.
func WithPatience(patience time.Duration) Option {
	return func(s *settings) { s.patience = patience }
}

// WithDialOptions adds options of gRPC's, such as interceptors.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

func settingsOf(options []Option) settings {
	s := settings{patience: defaultPatience}
	for _, option := range options {
		option(&s)
	}
	return s
}

// Connect returns a connection to a coordinator as a Client has it, for generated clients.
func Connect(target string, options ...Option) (*grpc.ClientConn, error) {
	s := settingsOf(options)
	dial := []grpc.DialOption{
		// Finds out that the other side is gone, also through NATs that forget idle connections.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 25 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		// gRPC's own longest wait between attempts is two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if s.tls != nil {
		dial = append(dial, grpc.WithTransportCredentials(credentials.NewTLS(s.tls)))
	} else {
		dial = append(dial, grpc.WithInsecure())
	}
	if s.key != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(apiKey(s.key)))
	}
	return grpc.Dial(target, append(dial, s.dial...)...)
}

type apiKey string

func (k apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"x-api-key": string(k)}, nil
}

// RequireTransportSecurity is false: a coordinator on this machine has none.
func (apiKey) RequireTransportSecurity() bool { return false }
