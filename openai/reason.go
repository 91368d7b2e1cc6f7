package openai

import "slices"

// OtherReason stands for all reasons that are not known: upstreams choose them.
const OtherReason = "other"

// finishReasons are the values of finish_reason and stop_reason that are known. The
// longest has maxReason bytes.
var finishReasons = []string{
	"stop", "length", "tool_calls", "content_filter", "function_call", "abort",
	"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal",
	OtherReason,
}

const maxReason = len("content_filter")

// FinishReason returns a reason if it is known, else OtherReason.
func FinishReason(reason string) string {
	if slices.Contains(finishReasons, reason) {
		return reason
	}
	return OtherReason
}

// withReason adds a reason to a list that has each once. It keeps nothing of text, and
// allocates nothing for the first.
func withReason(list []string, text []byte) []string {
	i := slices.IndexFunc(finishReasons, func(r string) bool { return r == string(text) })
	if i < 0 {
		i = len(finishReasons) - 1
	}
	switch {
	case list == nil:
		return finishReasons[i : i+1 : i+1]
	case slices.Contains(list, finishReasons[i]):
		return list
	default:
		return append(list, finishReasons[i])
	}
}
