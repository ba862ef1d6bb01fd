package miner

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"

	aitbcv1 "aitbc/v1"
)

const (
	statementsPurpose  = "aitbc-statements/v1\n"
	proofPurpose       = "aitbc-miner-proof/v1\n"
	endorsementPurpose = "aitbc-miner-key/v1\n"
	saltBytes          = 16
	// newestStatement is the newest version of statements that it knows.
	newestStatement = 2
)

// signer signs what the miner says it did: docs/reference/formats.md says it byte by byte.
type signer struct {
	minerID                string
	key                    ed25519.PrivateKey
	publicKey, endorsement []byte
	version                int32
	// random fills a salt.
	random func([]byte) (int, error)
}

func newSigner(minerID string, key, previous ed25519.PrivateKey) *signer {
	s := &signer{
		minerID: minerID, key: key, publicKey: key.Public().(ed25519.PublicKey), version: 1, random: rand.Read,
	}
	if previous != nil {
		s.endorsement = ed25519.Sign(previous, append([]byte(endorsementPurpose), s.publicKey...))
	}
	return s
}

// prove returns the proof of the key that the coordinator asks for with a nonce.
func (s *signer) prove(nonce string) []byte {
	return ed25519.Sign(s.key, []byte(proofPurpose+nonce+"\n"+s.minerID))
}

// agree takes the newest version of statements that both sides know.
func (s *signer) agree(newest int32) {
	s.version = 1
	if newest >= newestStatement {
		s.version = newestStatement
	}
}

// sign gives each completion its salt, and the message the signature of all of them, if it has any.
func (s *signer) sign(news *aitbcv1.Updates, jobOf func(leaseID string) string) {
	var leaves [][]byte
	for _, update := range news.GetUpdates() {
		done := update.GetCompletion()
		if done == nil {
			continue
		}
		done.ResultSalt = make([]byte, saltBytes)
		if _, err := s.random(done.ResultSalt); err != nil {
			panic("miner: no random numbers: " + err.Error())
		}
		statement := s.statement(jobOf(update.GetLeaseId()), update.GetLeaseId(), done)
		leaf := sha256.Sum256(append([]byte{0}, statement...))
		leaves = append(leaves, leaf[:])
	}
	if len(leaves) > 0 {
		news.Signature = ed25519.Sign(s.key, append([]byte(statementsPurpose), root(leaves)...))
		news.StatementVersion = s.version
	}
}

func (s *signer) statement(jobID, leaseID string, done *aitbcv1.Completion) []byte {
	resultHash := sha256.Sum256(append(done.ResultSalt[:saltBytes:saltBytes], done.Result...))
	fields := map[string]interface{}{
		"miner_id": s.minerID, "job_id": jobID, "lease_id": leaseID,
		"result_hash": hex.EncodeToString(resultHash[:]),
	}
	if s.version >= 2 {
		whole := sha256.New()
		whole.Write(done.ResultSalt)
		whole.Write(resultHash[:])
		whole.Write(canonical(besideText(done)))
		fields["version"], fields["answer_hash"] = int(s.version), hex.EncodeToString(whole.Sum(nil))
	}
	if usage := done.GetUsage(); usage != nil {
		if usage.PromptTokens != nil {
			fields["prompt_tokens"] = int(*usage.PromptTokens)
		}
		if usage.CompletionTokens != nil {
			fields["completion_tokens"] = int(*usage.CompletionTokens)
		}
	}
	return canonical(fields)
}

// besideText returns what an answer has beside its text. What it does not have is left out.
func besideText(done *aitbcv1.Completion) map[string]interface{} {
	calls := make([]interface{}, 0, len(done.GetToolCalls()))
	for _, call := range done.GetToolCalls() {
		calls = append(calls, present(map[string]interface{}{
			"id": call.GetId(), "name": call.GetName(), "arguments": call.GetArguments(),
		}))
	}
	outputs := make([]interface{}, 0, len(done.GetOutputs()))
	for _, output := range done.GetOutputs() {
		outputs = append(outputs, outputFields(output))
	}
	answered := map[string]interface{}{
		"finish_reason": done.GetFinishReason(),
		"reasoning":     done.GetReasoning(),
		"tool_calls":    calls,
		"logprobs":      len(done.GetLogprobs()),
		"token_ids":     len(done.GetTokenIds()),
		"outputs":       outputs,
		"stop_string":   done.GetStopString(),
	}
	if done.StopTokenId != nil {
		answered["stop_token_id"] = strconv.Itoa(int(done.GetStopTokenId()))
	}
	return present(answered)
}

// outputFields returns what a task made of one input: its numbers as texts, by their bits.
func outputFields(output *aitbcv1.TaskOutput) map[string]interface{} {
	vector := make([]byte, 0, 4*len(output.GetVector()))
	for _, number := range output.GetVector() {
		vector = binary.BigEndian.AppendUint32(vector, math.Float32bits(number))
	}
	score := ""
	if output.Score != nil {
		score = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(output.GetScore())))
	}
	ids := make([]interface{}, 0, len(output.GetTokenIds()))
	for _, id := range output.GetTokenIds() {
		ids = append(ids, strconv.Itoa(int(id)))
	}
	tokens := make([]interface{}, 0, len(output.GetTokens()))
	for _, token := range output.GetTokens() {
		tokens = append(tokens, token)
	}
	return present(map[string]interface{}{
		"vector": hex.EncodeToString(vector), "score": score,
		"token_ids": ids, "tokens": tokens, "text": output.GetText(),
	})
}

// root returns the Merkle root of RFC 9162, section 2.1.1.
func root(hashes [][]byte) []byte {
	for len(hashes) > 1 {
		var above [][]byte
		for at := 0; at < len(hashes); at += 2 {
			if at+1 == len(hashes) {
				above = append(above, hashes[at])
				break
			}
			pair := sha256.Sum256(append(append([]byte{1}, hashes[at]...), hashes[at+1]...))
			above = append(above, pair[:])
		}
		hashes = above
	}
	return hashes[0]
}
