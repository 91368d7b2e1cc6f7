package openai

import (
	"bytes"
	"hash/maphash"
	"slices"
)

const (
	// maxMembers is how many members the body itself may have.
	maxMembers = 512
	// maxOptions is how many members stream_options may have.
	maxOptions = 32
)

// span is a range of bytes of the body.
type span struct{ start, end int }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// member is a top-level member that has a meaning to the gateway.
type member uint8

const (
	unknownMember member = iota
	memberModel
	memberStream
	memberStreamOptions
	memberMaxTokens
	memberMaxCompletionTokens
	memberN
	memberBestOf
	memberTopLogprobs
	memberLogprobs
	memberExtension // one of extensions
	memberMessages
	memberPrompt
	memberInput
	memberQuery     // what documents are compared with, under any of its names
	memberDocuments // what is compared with it, likewise
	memberSystem    // of messages
	memberInstructions
	memberMaxOutputTokens
	memberBackground
	memberText // the form of a response's text
	memberTools
	memberFunctions
	memberResponseFormat
	reservedMember // known by name only
)

// knownMember returns what the member written as name, byte for byte, is.
//
// The reserved ones and the extensions change what a request costs or touch the
// engine's own scheduling: a body must not be able to write their names in a way that
// only the engine understands. The last two are members of stream_options.
func knownMember(name []byte) member {
	switch string(name) {
	case "model":
		return memberModel
	case "stream":
		return memberStream
	case "stream_options":
		return memberStreamOptions
	case "max_tokens":
		return memberMaxTokens
	case "max_completion_tokens":
		return memberMaxCompletionTokens
	case "n":
		return memberN
	case "best_of":
		return memberBestOf
	case "top_logprobs":
		return memberTopLogprobs
	case "logprobs":
		return memberLogprobs
	case "messages":
		return memberMessages
	case "prompt":
		return memberPrompt
	case "input":
		return memberInput
	case "query", "queries", "text_1", "data_1":
		return memberQuery
	case "documents", "items", "text_2", "data_2":
		return memberDocuments
	case "system":
		return memberSystem
	case "instructions":
		return memberInstructions
	case "max_output_tokens":
		return memberMaxOutputTokens
	case "background":
		return memberBackground
	case "text":
		return memberText
	case "tools":
		return memberTools
	case "functions":
		return memberFunctions
	case "response_format":
		return memberResponseFormat
	case "ignore_eos", "min_tokens", "echo", "user", "include_usage", "continuous_usage_stats":
		return reservedMember
	default:
		if ExtensionOf(string(name)) != 0 {
			return memberExtension
		}
		return unknownMember
	}
}

// longestName is more than the length of any known name, in any of the ways
// that folding of case allows (the Kelvin sign, three bytes, is a "k").
const longestName = 3 * len("max_completion_tokens")

// misspelt reports whether the decoded name is a known one but for case or the
// escapes it was written with, and returns that one. The name as it stands in
// the body must be unknown.
func misspelt(decoded []byte) (want string, ok bool) {
	if len(decoded) > longestName {
		return "", false
	}
	// Lower case is found by folding each letter: at most two are not ASCII.
	var buf [longestName]byte
	folded := buf[:0]
	for _, r := range string(decoded) {
		switch {
		case 'A' <= r && r <= 'Z':
			folded = append(folded, byte(r-'A'+'a'))
		case r == '\u212A': // Kelvin sign
			folded = append(folded, 'k')
		case r == '\u017F': // long s
			folded = append(folded, 's')
		case r < 0x80:
			folded = append(folded, byte(r))
		default:
			return "", false
		}
	}
	if knownMember(folded) == unknownMember {
		return "", false
	}
	return string(folded), true
}

// plainName reports whether a name is written with lower-case ASCII letters,
// digits and signs only, so that nothing else can be meant by it.
func plainName(raw []byte) bool {
	for _, c := range raw {
		if c == '\\' || c >= 0x80 || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// nameSeed keys the hashes of names, so that nobody can choose names that collide.
var nameSeed = maphash.MakeSeed()

// nameSet holds the names of an object's members, to find those written twice.
// Names are compared decoded: "n" and "\u006e" are one name. It keeps only their
// hashes: two different names among 512 share one in less than 1 of 10¹⁴ bodies.
// It is an array, so that it can stand on the stack.
type nameSet struct {
	hashes [maxMembers]uint64
	n      int
}

// add adds a name, as written, and reports whether it is new. The set must hold
// fewer than maxMembers.
func (s *nameSet) add(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = decodeString(raw)
	}
	h := maphash.Bytes(nameSeed, raw)
	if slices.Contains(s.hashes[:s.n], h) {
		return false
	}
	s.hashes[s.n] = h
	s.n++
	return true
}
