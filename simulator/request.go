package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxChoices is vLLM's VLLM_MAX_N_SEQUENCES.
const maxChoices = 16384

// request is the part of a body that matters here.
type request struct {
	model      string
	stream     bool
	usage      bool // stream_options.include_usage
	continuous bool // stream_options.continuous_usage_stats
	max        int64
	maxName    string // the member that max is from
	n          int64
	prompts    []prompt

	instructions string // of a response
}

// prompt is one text to be answered.
type prompt struct {
	tokens int64
	last   string // the last user message, or the prompt
	turns  int    // user messages
}

// members is a JSON object. Unlike a struct it keeps names apart that differ in
// case only, as vLLM does.
type members map[string]json.RawMessage

// read reads the member called name into v, if it is there and not null.
func (m members) read(name string, v any, kind, what string) error {
	raw, ok := m[name]
	if !ok || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return invalid("body."+name, kind, "Input should be a valid "+what)
	}
	return nil
}

func (m members) boolean(name string, v *bool) error {
	return m.read(name, v, "bool_parsing", "boolean")
}

func (m members) integer(name string, v *int64) error {
	return m.read(name, v, "int_parsing", "integer")
}

// parseRequest reads and checks a body. Its errors are refusals.
func parseRequest(body []byte, path string) (*request, error) {
	m, err := parseBody(body)
	if err != nil {
		return nil, err
	}
	r := &request{n: 1}
	err = errors.Join(
		m.read("model", &r.model, "string_type", "string"),
		m.boolean("stream", &r.stream),
		m.integer("n", &r.n),
	)
	if err == nil {
		err = r.readStreamOptions(m, path)
	}
	if err == nil {
		err = r.readMax(m, path)
	}
	if err != nil {
		return nil, err
	}
	if r.n < 1 || r.n > maxChoices {
		return nil, badRequest("", "n must be at least 1 and at most %d, got %d.", maxChoices, r.n)
	}
	r.prompts, err = r.readPrompts(m, path)
	return r, err
}

// readPrompts reads what is to be answered at a path.
func (r *request) readPrompts(m members, path string) ([]prompt, error) {
	switch path {
	case pathResponses:
		p, instructions, err := m.responseInput()
		r.instructions = instructions
		return []prompt{p}, err
	case pathMessages:
		p, err := m.messageInput()
		return []prompt{p}, err
	default:
		return m.prompts(path == pathChat)
	}
}

func parseBody(body []byte) (members, error) {
	var m members
	err := json.Unmarshal(body, &m)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, invalid(fmt.Sprintf("body.%d", syntax.Offset), "json_invalid", "JSON decode error")
	}
	if err != nil || m == nil {
		return nil, invalid("body", "model_attributes_type", "Input should be a valid dictionary or object to extract fields from")
	}
	return m, nil
}

func (r *request) readStreamOptions(m members, path string) error {
	var options members
	if err := m.read("stream_options", &options, "model_attributes_type", "dictionary"); err != nil {
		return err
	}
	if options == nil {
		return nil
	}
	if !r.stream && path != pathResponses {
		return badRequest("stream_options", "Stream options can only be defined when `stream=True`. (parameter=stream_options)")
	}
	return errors.Join(
		options.boolean("include_usage", &r.usage),
		options.boolean("continuous_usage_stats", &r.continuous),
	)
}

// readMax reads the limit of completion tokens, 0 if there is none.
func (r *request) readMax(m members, path string) error {
	names := []string{"max_tokens"}
	switch path {
	case pathChat:
		names = append(names, "max_completion_tokens") // wins
	case pathResponses:
		names = []string{"max_output_tokens"}
	}
	for _, name := range names {
		if raw, ok := m[name]; !ok || string(raw) == "null" {
			continue
		}
		r.maxName = name
		if err := m.integer(name, &r.max); err != nil {
			return err
		}
		if r.max < 1 {
			return badRequest(name, "%s must be at least 1, got %d. (parameter=%s, value=%d)", name, r.max, name, r.max)
		}
	}
	return nil
}

// fit checks that the request fits into a window of so many tokens, and returns
// the most tokens that may be generated for prompt p; 0 is no limit.
func (r *request) fit(p prompt, window int64) (int64, error) {
	switch {
	case window == 0:
		return r.max, nil
	case r.max > window:
		return 0, badRequest(r.maxName, "%s=%d cannot be greater than max_model_len=%d. "+
			"Please request fewer output tokens. (parameter=%s, value=%d)", r.maxName, r.max, window, r.maxName, r.max)
	case p.tokens > window:
		return 0, tooLong(window)
	case p.tokens == window:
		return 0, badRequest("max_tokens", "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)")
	case r.max == 0:
		return window - p.tokens, nil
	default:
		return min(r.max, window-p.tokens), nil
	}
}

// tooLong refuses a prompt that does not fit into a window.
func tooLong(window int64) error {
	return badRequest("input_tokens", "This model's maximum context length is %d tokens. However, your prompt contains "+
		"at least %d input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "+
		"input prompt. (parameter=input_tokens, value=%d)", window, window+1, window+1)
}

// PromptTokens returns the prompt tokens that a request of this body is said to
// have: one for each run of letters and digits and each run of other characters
// in a message's text, and 4 for each message. In the prompt of a completion it
// is one for each run, or for each token ID; several prompts are added up. It
// fails if the body is not a JSON object with valid messages or prompt.
func PromptTokens(body []byte) (int64, error) {
	m, err := parseBody(body)
	if err != nil {
		return 0, err
	}
	_, chat := m["messages"]
	prompts, err := m.prompts(chat)
	return promptTokens(prompts), err
}

func promptTokens(prompts []prompt) (n int64) {
	for _, p := range prompts {
		n += p.tokens
	}
	return n
}

// prompts reads what is to be answered, at least one.
func (m members) prompts(chat bool) ([]prompt, error) {
	if chat {
		p, err := m.conversation()
		return []prompt{p}, err
	}
	return parsePrompts(m["prompt"])
}

// messageTokens is what each message is counted for, beside its text.
const messageTokens = 4

// conversation reads messages.
func (m members) conversation() (p prompt, err error) {
	var messages []struct {
		Role    string
		Content json.RawMessage
	}
	if _, ok := m["messages"]; !ok {
		return p, invalid("body.messages", "missing", "Field required")
	}
	if err := m.read("messages", &messages, "list_type", "list"); err != nil {
		return p, err
	}
	if len(messages) == 0 {
		return p, badRequest("", "Cannot apply chat template to an empty conversation. Provide at least one message.")
	}
	for _, message := range messages {
		text := contentText(message.Content)
		p.tokens += messageTokens + countTokens(text)
		if message.Role == "user" {
			p.turns++
			p.last = text
		}
	}
	return p, nil
}

// contentText returns the text of a message: a string, or that of its parts.
func contentText(raw json.RawMessage) string {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) == nil {
		return text
	}
	var parts []struct{ Text string }
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.Text
	}
	return strings.Join(texts, " ")
}

// parsePrompts reads the prompt of a completion, which is a text, the IDs of its
// tokens, or a list of either.
func parsePrompts(raw json.RawMessage) ([]prompt, error) {
	var (
		text  string
		texts []string
		ids   []int64
		lists [][]int64
	)
	var prompts []prompt
	switch {
	case len(raw) == 0:
	case json.Unmarshal(raw, &text) == nil:
		if text != "" {
			prompts = append(prompts, textPrompt(text))
		}
	case json.Unmarshal(raw, &texts) == nil:
		for _, text := range texts {
			prompts = append(prompts, textPrompt(text))
		}
	case json.Unmarshal(raw, &ids) == nil:
		prompts = append(prompts, prompt{tokens: int64(len(ids))})
	case json.Unmarshal(raw, &lists) == nil:
		for _, list := range lists {
			prompts = append(prompts, prompt{tokens: int64(len(list))})
		}
	}
	if len(prompts) == 0 || promptTokens(prompts) == 0 {
		return nil, badRequest("prompt", "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)")
	}
	return prompts, nil
}

func textPrompt(text string) prompt {
	return prompt{tokens: countTokens(text), last: text, turns: 1}
}
