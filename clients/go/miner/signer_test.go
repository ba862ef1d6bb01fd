package miner

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"

	aitbcv1 "aitbc/v1"

	"google.golang.org/protobuf/proto"
)

// The example of docs/reference/formats.md.
func TestSignsAsTheFormatsSay(t *testing.T) {
	s := newSigner("miner-1", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)), nil)
	s.agree(3)
	s.random = func(salt []byte) (int, error) {
		for at := range salt {
			salt[at] = byte(at)
		}
		return len(salt), nil
	}
	usage := &aitbcv1.Usage{PromptTokens: proto.Int32(12), CompletionTokens: proto.Int32(3)}
	completions := []*aitbcv1.Completion{
		{Result: "Paris.", FinishReason: "stop", Usage: usage},
		{Result: "Röntgen", FinishReason: "tool_calls", Usage: usage, ToolCalls: []*aitbcv1.ToolCall{
			{Id: "call-1", Name: "look_up", Arguments: `{"of":"Röntgen"}`},
		}},
	}
	jobs := map[string]string{
		"lease-01kfr3m2g0aaaaaaaaaaaaaaaa-1": "job-01kfr3m2g0aaaaaaaaaaaaaaaa",
		"lease-01kfr3m2g0bbbbbbbbbbbbbbbb-1": "job-01kfr3m2g0bbbbbbbbbbbbbbbb",
	}
	news := &aitbcv1.Updates{Updates: []*aitbcv1.Update{
		{LeaseId: "lease-01kfr3m2g0aaaaaaaaaaaaaaaa-1", Event: &aitbcv1.Update_Completion{Completion: completions[0]}},
		{LeaseId: "lease-other", Event: &aitbcv1.Update_Delta{Delta: &aitbcv1.Delta{Text: "more"}}},
		{LeaseId: "lease-01kfr3m2g0bbbbbbbbbbbbbbbb-1", Event: &aitbcv1.Update_Completion{Completion: completions[1]}},
	}}
	s.sign(news, func(leaseID string) string { return jobs[leaseID] })

	const signature = "fANeqTcZyE5p/HIBtr9wKWGWYWVZdZ3WTy0CRcOFQuhkwKTEF/ZW0+RImpEMb3OAj+4RC8gI2DgFcEBSY23tDQ=="
	if got := base64.StdEncoding.EncodeToString(news.Signature); got != signature || news.StatementVersion != 2 {
		t.Errorf("version %d, signature %s", news.StatementVersion, got)
	}
	statement := s.statement(jobs["lease-01kfr3m2g0bbbbbbbbbbbbbbbb-1"], "lease-01kfr3m2g0bbbbbbbbbbbbbbbb-1", completions[1])
	leaf := sha256.Sum256(append([]byte{0}, statement...))
	if got := hex.EncodeToString(leaf[:]); got != "0a7e7cf7ed2833afcab33d7071b3761f298e5d57b8f4553f7a73483edf0c1a6d" {
		t.Errorf("%s\n%s", statement, got)
	}
}

func TestWithoutCompletionsNothingIsSigned(t *testing.T) {
	s := newSigner("miner-1", ed25519.NewKeyFromSeed(make([]byte, 32)), nil)
	news := &aitbcv1.Updates{Updates: []*aitbcv1.Update{{Event: &aitbcv1.Update_Delta{}}}}
	s.sign(news, nil)
	if news.Signature != nil || news.StatementVersion != 0 {
		t.Error(news)
	}
}

func TestCanonicalTextEscapesWhatRFC8785Does(t *testing.T) {
	got := string(canonical(map[string]interface{}{"b": "<&>\u2028\x7f\x01\"\\\n", "a": []interface{}{1, "x"}}))
	if want := "{\"a\":[1,\"x\"],\"b\":\"<&>\u2028\x7f\\u0001\\\"\\\\\\n\"}"; got != want {
		t.Errorf("%s\n%s", got, want)
	}
}

// Those of docs/how-to/write-a-miner.md.
func TestProvesAndEndorsesTheKey(t *testing.T) {
	seed := func(value byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{value}, 32))
	}
	s := newSigner("miner-1", seed(2), seed(3))
	if got := base64.StdEncoding.EncodeToString(s.prove("nonce-1")); got != "XTCNCkwoft587S8ivGrWhR8vZ5+74TBjisf8IkPVp0f1IgMIXcRVmlNELATTOAjJ1rOfTfFqDhmkacM/CBzqDA==" {
		t.Error(got)
	}
	if got := base64.StdEncoding.EncodeToString(s.endorsement); got != "kEUAa/Sk+5KPHdV3JOBIwg1V3t2VrYhsEnopKFGjFa/fJJxqqiYCLTCKF0jN3eM9gsEIl2e1Of9+8S7fEFVTCA==" {
		t.Error(got)
	}
}
