package simulator

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a script may ask for.
const (
	maxTokens = 10_000_000
	maxPad    = 16 << 20 // bytes
)

// NoTokens as Script.Tokens is an answer without any token, tokens=0 in text.
const NoTokens = -1

// Script says how an exchange goes. The zero value is the default: 16 tokens
// of lorem ipsum, one per chunk, as fast as possible, without failure.
type Script struct {
	Tokens     int64         // completion tokens per choice; 0 is the default of the text
	Pace       time.Duration // between chunks
	TTFT       time.Duration // before the first token
	Per        int64         // tokens per chunk; 0 is 1
	Text       Text
	Usage      UsageMode
	NoDone     bool // leave out [DONE]
	Fail       Failure
	RetryAfter int64 // seconds, sent with a failing 429 or 503; 0 sends none
	Pad        int64 // bytes of content added to each chunk
	Gzip       bool
}

// Text is what a model says.
type Text string

// The texts. The zero value is TextLorem.
const (
	TextLorem  Text = "lorem"  // words of lorem ipsum
	TextAnswer Text = "answer" // a friendly answer, for the demo
	TextEcho   Text = "echo"   // the last user message, or the prompt
)

// UsageMode is when usage is sent.
type UsageMode string

// The usage modes. The zero value is UsageFinal.
const (
	UsageFinal  UsageMode = "final"  // as stream_options ask
	UsageNever  UsageMode = "never"  // not even in plain answers
	UsageChunks UsageMode = "chunks" // running totals on each chunk, and at the end
	UsageFinish UsageMode = "finish" // on the chunk with finish_reason only
	UsageZeros  UsageMode = "zeros"  // zeros on each chunk, the truth at the end
)

// ParseScript reads a script such as "tokens=128,pace=10ms,fail=reset:5". Spaces
// around members and values are ignored, and empty text is the default script.
// Its error tells the member that is wrong, and what is allowed.
func ParseScript(text string) (Script, error) { return Script{}.Override(text) }

// Override returns s with the members that text gives in the place of its own.
// Errors are those of ParseScript.
func (s Script) Override(text string) (Script, error) {
	err := eachMember(text, s.set)
	return s, err
}

// eachMember calls set with each member of a script.
func eachMember(text string, set func(name, value string) error) error {
	seen := make(map[string]bool)
	for member := range strings.SplitSeq(text, ",") {
		member = strings.TrimSpace(member)
		if member == "" {
			continue
		}
		name, value, ok := strings.Cut(member, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			return fmt.Errorf("script: member %q has no value, want name=value", member)
		case seen[name]:
			return fmt.Errorf("script: %s is given twice", name)
		}
		seen[name] = true
		if err := set(name, value); err != nil {
			return fmt.Errorf("script: %w", err)
		}
	}
	return nil
}

// ScriptHelp explains scripts to people, a line a member.
const ScriptHelp = `tokens=N        tokens of an answer; 16
pace=DURATION   between pieces of a stream, such as 50ms; 0
ttft=DURATION   before the first one; 0
per=N           tokens a piece; 1
text=KIND       lorem, answer, or echo: what was asked
usage=MODE      final, never, chunks (running totals), finish (on the last piece), zeros (the truth at the end)
done=no         no [DONE]
fail=KIND       ` + failureForms + `; N: after so many pieces
retry_after=N   seconds, told with a failing 429 or 503
pad=N           bytes added to each piece
gzip=yes        answers are compressed, asked for or not`

const memberNames = "tokens, pace, ttft, per, text, usage, done, fail, retry_after, pad, gzip"

// set sets one member.
func (s *Script) set(name, value string) (err error) {
	switch name {
	case "tokens":
		s.Tokens, err = parseCount(name, value, 0, maxTokens)
		if err == nil && s.Tokens == 0 {
			s.Tokens = NoTokens
		}
	case "pace":
		s.Pace, err = parseDuration(name, value)
	case "ttft":
		s.TTFT, err = parseDuration(name, value)
	case "per":
		s.Per, err = parseCount(name, value, 1, maxTokens)
	case "text":
		s.Text, err = parseOneOf(name, value, TextLorem, TextAnswer, TextEcho)
	case "usage":
		s.Usage, err = parseOneOf(name, value, UsageFinal, UsageNever, UsageChunks, UsageFinish, UsageZeros)
	case "done":
		var done bool
		done, err = parseBool(name, value)
		s.NoDone = !done
	case "fail":
		s.Fail, err = parseFailure(value)
	case "retry_after":
		s.RetryAfter, err = parseCount(name, value, 0, 1_000_000)
	case "pad":
		s.Pad, err = parseCount(name, value, 0, maxPad)
	case "gzip":
		s.Gzip, err = parseBool(name, value)
	default:
		err = fmt.Errorf("unknown member %q, want one of %s", name, memberNames)
	}
	return err
}

func parseCount(name, value string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s=%q is not an integer from %d to %d", name, value, low, high)
	}
	return n, nil
}

func parseDuration(name, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > time.Hour {
		return 0, fmt.Errorf("%s=%q is not a duration from 0 to 1h, such as 20ms or 1.5s", name, value)
	}
	return d, nil
}

func parseBool(name, value string) (bool, error) {
	v, err := parseOneOf(name, value, "yes", "no")
	return v == "yes", err
}

func parseOneOf[T ~string](name, value string, allowed ...T) (T, error) {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		if T(value) == a {
			return a, nil
		}
		names[i] = string(a)
	}
	return "", fmt.Errorf("%s=%q is not one of %s", name, value, strings.Join(names, ", "))
}
