package miner

import (
	"strings"
	"unicode/utf8"

	aitbcv1 "aitbc/v1"
)

// Answer is what an engine says, as it says it. One goroutine uses it, until the engine's method returns.
type Answer struct {
	// Completion is what an answer has beside its text: the usage, the finish reason ("stop" by default),
	// calls, outputs, probabilities. Result and Reasoning are what was said; so are the CompletionTokens,
	// unless the engine sets them.
	Completion *aitbcv1.Completion

	agent *agent
	lease *lease
	// rest are bytes that do not make a character yet.
	rest, thoughtRest string
}

// Say adds to the text, which stands for so many tokens. It may be cut within a character; what is no UTF-8
// becomes U+FFFD.
func (a *Answer) Say(text string, tokens int) {
	text, a.rest = cut(a.rest + text)
	a.agent.say(a.lease, text, "", tokens)
}

// Think adds to what the model thinks before it answers.
func (a *Answer) Think(text string, tokens int) {
	text, a.thoughtRest = cut(a.thoughtRest + text)
	a.agent.say(a.lease, "", text, tokens)
}

// Resume takes over the beginning of the answer that an attempt before delivered, and returns it: the engine
// goes on after it. Without a call the answer begins anew. It is empty where there is none, or where the
// engine has spoken already.
func (a *Answer) Resume() (text string, tokens int) {
	return a.agent.resume(a.lease)
}

func (a *Answer) finish() {
	a.agent.say(a.lease, strings.ToValidUTF8(a.rest, "\uFFFD"), strings.ToValidUTF8(a.thoughtRest, "\uFFFD"), 0)
}

// cut returns the whole characters of a text, and the bytes after them.
func cut(text string) (whole, rest string) {
	end := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if start := len(text) - back; utf8.RuneStart(text[start]) {
			if !utf8.FullRuneInString(text[start:]) {
				end = start
			}
			break
		}
	}
	return strings.ToValidUTF8(text[:end], "\uFFFD"), text[end:]
}
