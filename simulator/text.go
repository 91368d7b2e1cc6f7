package simulator

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// source is an endless text, token by token.
type source struct {
	tokens []string // at least one
	words  bool     // tokens are words, which need spaces between them
	skip   int64    // token to begin with
}

// token returns token i, and whether there is a gap, a space, before it.
func (s source) token(i int64) (gap bool, token string) {
	n := int64(len(s.tokens))
	return i > 0 && (s.words || i%n == 0), s.tokens[(i+s.skip)%n]
}

// newSource returns the text of choice index, and how many tokens it has by
// itself: 0 if it is endless.
func newSource(kind Text, p prompt, index int64) (src source, own int64) {
	text := ""
	switch kind {
	case TextAnswer:
		text = demoAnswer(p)
	case TextEcho:
		text = p.last
	case TextLorem:
	}
	tokens := split(text)
	if len(tokens) == 0 {
		return source{tokens: lorem, words: true, skip: 7 * index}, 0
	}
	return source{tokens: tokens}, int64(len(tokens))
}

var lorem = strings.Fields(`lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor
incididunt ut labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation
ullamco laboris nisi ut aliquip ex ea commodo consequat duis aute irure dolor in reprehenderit in
voluptate velit esse cillum dolore eu fugiat nulla pariatur excepteur sint occaecat cupidatat non
proident sunt in culpa qui officia deserunt mollit anim id est laborum`)

// quotedWords is how many words of the user the demo repeats.
const quotedWords = 8

// demoAnswer is what the demo model says.
func demoAnswer(p prompt) string {
	var b strings.Builder
	b.WriteString("Hello! ")
	words := strings.Fields(p.last)
	switch {
	case len(words) > quotedWords:
		fmt.Fprintf(&b, "You wrote “%s …”. ", strings.Join(words[:quotedWords], " "))
	case len(words) > 0:
		fmt.Fprintf(&b, "You wrote “%s”. ", strings.Join(words, " "))
	}
	if p.turns > 1 {
		fmt.Fprintf(&b, "That was message %d of our conversation. ", p.turns)
	}
	b.WriteString("I am weir's built-in demo model, so I have nothing clever to say about it: " +
		"I give everybody this answer, one token at a time. ")
	b.WriteString("But the way it came to you is real. weir checked your key and your limits, " +
		"passed the request on, and counted these tokens as they went by.\n\n" +
		"To talk to a model that thinks, add an upstream to weir.yaml, for example a vLLM or llama.cpp server.")
	return b.String()
}

// split cuts text into tokens, which joined are the text again: each is a run
// of letters and digits, or one of anything else, with the space before it. The
// last has the space after it too. Text without either has no token.
func split(text string) []string {
	var tokens []string
	start := 0
	for end := nextToken(text, 0); end > 0; end = nextToken(text, start) {
		tokens = append(tokens, text[start:end])
		start = end
	}
	if n := len(tokens); n > 0 {
		tokens[n-1] += text[start:]
	}
	return tokens
}

// countTokens returns len(split(text)).
func countTokens(text string) (n int64) {
	for end := nextToken(text, 0); end > 0; end = nextToken(text, end) {
		n++
	}
	return n
}

// nextToken returns where the token ends that begins at start, or 0 if there is
// only space left.
func nextToken(text string, start int) int {
	i, kind := start, space
	for i < len(text) {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		k := classOf(r)
		if kind != space && k != kind {
			return i
		}
		kind = k
		i += size
	}
	if kind == space {
		return 0
	}
	return i
}

// class is what a token is made of.
type class int

const (
	space class = iota
	word
	mark
)

func classOf(r rune) class {
	switch {
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), r == '_':
		return word
	default:
		return mark
	}
}
