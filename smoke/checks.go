package smoke

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// model is a model of the list.
type model struct {
	ID     string
	Window int64 `json:"context_length"` // tokens; 0: unknown
	Len    int64 `json:"max_model_len"`
}

func (r *run) health(ctx context.Context) (string, error) {
	a, err := r.whole(ctx, http.MethodGet, "/health", "", "")
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK {
		return "", want("status 200", a.summary())
	}
	var h struct{ Status string }
	if json.Unmarshal(a.body, &h) == nil && h.Status != "" {
		return h.Status, nil
	}
	return "200", nil
}

func (r *run) models(ctx context.Context) (string, error) {
	a, err := r.whole(ctx, http.MethodGet, "/v1/models", "", r.opts.Key)
	if err != nil {
		return "", err
	}
	var list struct {
		Object string
		Data   []model
	}
	if err := a.good(&list); err != nil {
		return "", err
	}
	if list.Object != "list" || len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", want("a list of models", a.summary())
	}
	r.list = list.Data
	names := make([]string, len(list.Data))
	for i, m := range list.Data {
		names[i] = m.ID
	}
	if r.model == "" {
		r.model = names[0]
	} else if !slices.Contains(names, r.model) {
		return "", want("a list that has "+r.model, strings.Join(names, ", "))
	}
	const few = 3
	says := fmt.Sprintf("%d: %s", len(names), strings.Join(names[:min(few, len(names))], ", "))
	if len(names) > few {
		says += ", …"
	}
	return says, nil
}

// request is a chat request of the model, with more members.
func (r *run) request(prompt string, members string) (string, error) {
	if r.model == "" {
		return "", errSkipped{errors.New("no model is known: see models, or name one with --model")}
	}
	text, err := json.Marshal(map[string]any{"model": r.model, "messages": []map[string]string{{"role": "user", "content": prompt}}})
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(text), "}") + members + "}", nil
}

const question = "Say hello in one short sentence."

func (r *run) answer(ctx context.Context) (string, error) {
	body, err := r.request(question, `,"max_tokens":64`)
	if err != nil {
		return "", err
	}
	a, err := r.whole(ctx, http.MethodPost, "/v1/chat/completions", body, r.opts.Key)
	if err != nil {
		return "", err
	}
	var got struct {
		Choices []struct{ Message struct{ Role string } }
		Usage   *struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
		}
	}
	if err := a.good(&got); err != nil {
		return "", err
	}
	if len(got.Choices) == 0 || got.Choices[0].Message.Role != "assistant" || got.Usage == nil || got.Usage.Completion == 0 {
		return "", want("a choice of the assistant's and its usage", a.summary())
	}
	says := fmt.Sprintf("%s: %d tokens in, %d out", r.model, got.Usage.Prompt, got.Usage.Completion)
	if left := a.header.Get("X-Ratelimit-Remaining-Requests"); left != "" {
		says += ", " + left + " requests left"
	}
	return says, nil
}

func (r *run) stream(ctx context.Context) (string, error) {
	body, err := r.request(question, `,"max_tokens":64,"stream":true`)
	if err != nil {
		return "", err
	}
	begin := time.Now()
	resp, err := r.ask(ctx, http.MethodPost, "/v1/chat/completions", body, r.opts.Key)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		return "", want("a stream of events", fmt.Sprintf("status %d, %s", resp.StatusCode, kind))
	}
	var first time.Duration
	events, done := 0, false
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, mostAnswer)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		if data = strings.TrimSpace(data); data == "[DONE]" {
			done = true
			continue
		}
		var event struct {
			Choices []json.RawMessage
			Error   *problem
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return "", fmt.Errorf("an event that is no JSON: %w", err)
		}
		if event.Error != nil {
			return "", fmt.Errorf("the stream ended in an error: %s", event.Error.Message)
		}
		if events++; events == 1 {
			first = time.Since(begin)
		}
	}
	if err := lines.Err(); err != nil || !done || events == 0 {
		return "", errors.Join(fmt.Errorf("the stream broke off after %d events, without [DONE]", events), err)
	}
	return fmt.Sprintf("%d events, the first after %v", events, first.Round(time.Millisecond)), nil
}

func (r *run) ownKey(ctx context.Context) (string, error) {
	a, err := r.whole(ctx, http.MethodGet, "/v1/key", "", r.opts.Key)
	if err != nil {
		return "", err
	}
	if a.status == http.StatusForbidden {
		return "", errSkipped{errors.New("the key may not be used for this path")}
	}
	if r.opts.Key != "" && strings.Contains(string(a.body), r.opts.Key) {
		return "", errors.New("the answer shows the secret")
	}
	var key struct {
		ID     string
		Limits []json.RawMessage
	}
	if err := a.good(&key); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d limits", key.ID, len(key.Limits)), nil
}

// contextLimit sends a prompt of three times the window, which no tokenizer makes fit.
func (r *run) contextLimit(ctx context.Context) (string, error) {
	const (
		word  = " a" // a token of nearly every vocabulary
		times = 3
		most  = 7 << 20 // bytes: 8 MiB is what gateways take
	)
	window := r.window()
	if window == 0 {
		return "", errSkipped{errors.New("the window of the model is not known")}
	}
	if window*times*int64(len(word)) > most {
		return "", errSkipped{fmt.Errorf("a prompt beyond %d tokens is too large to send", window)}
	}
	body, err := r.request(strings.Repeat(word, int(window)*times), `,"max_tokens":1`)
	if err != nil {
		return "", err
	}
	a, err := r.whole(ctx, http.MethodPost, "/v1/chat/completions", body, r.opts.Key)
	if err != nil {
		return "", err
	}
	p, err := a.refused(http.StatusBadRequest)
	if err != nil {
		return "", err
	}
	if p.Code == nil || *p.Code != "context_length_exceeded" {
		return "", want("context_length_exceeded", a.summary())
	}
	return fmt.Sprintf("more than %d tokens: %s", window, p.code(a.status)), nil
}

func (r *run) window() int64 {
	for _, m := range r.list {
		if m.ID == r.model {
			return max(m.Window, m.Len)
		}
	}
	return 0
}

const nobodys = "sk-smoke-test-of-a-key-that-nobody-has-0000"

func (r *run) wrongKey(ctx context.Context) (string, error) {
	a, err := r.whole(ctx, http.MethodGet, "/v1/models", "", nobodys)
	if err != nil {
		return "", err
	}
	p, err := a.refused(http.StatusUnauthorized)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(a.body), nobodys) {
		return "", errors.New("the error repeats the whole key")
	}
	return p.code(a.status), nil
}

func (r *run) noKey(ctx context.Context) (string, error) {
	return r.refusal(ctx, http.MethodGet, "/v1/models", "", "", http.StatusUnauthorized)
}

func (r *run) badJSON(ctx context.Context) (string, error) {
	return r.refusal(ctx, http.MethodPost, "/v1/chat/completions", `{"model":`, r.opts.Key, http.StatusBadRequest)
}

func (r *run) unknownModel(ctx context.Context) (string, error) {
	body := `{"model":"a-model-that-nobody-has","messages":[{"role":"user","content":"hello"}],"max_tokens":1}`
	return r.refusal(ctx, http.MethodPost, "/v1/chat/completions", body, r.opts.Key, http.StatusNotFound)
}

func (r *run) unknownPath(ctx context.Context) (string, error) {
	return r.refusal(ctx, http.MethodGet, "/v1/a-path-that-nobody-serves", "", r.opts.Key, http.StatusNotFound)
}

func (r *run) refusal(ctx context.Context, method, path, body, key string, status int) (string, error) {
	a, err := r.whole(ctx, method, path, body, key)
	if err != nil {
		return "", err
	}
	p, err := a.refused(status)
	if err != nil {
		return "", err
	}
	return p.code(a.status), nil
}
