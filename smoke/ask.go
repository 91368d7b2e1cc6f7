package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// mostAnswer bounds what is read of an answer, in bytes.
const mostAnswer = 8 << 20

// answer is what a server has answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is an error in OpenAI's shape.
type problem struct {
	Message string
	Type    string
	Code    *string
}

// ask sends a request. The caller closes the body of the answer.
func (r *run) ask(ctx context.Context, method, path, body, key string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := r.opts.Client.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer within %v", r.opts.Timeout)
	}
	return resp, err
}

// whole is ask for answers that are read as a whole.
func (r *run) whole(ctx context.Context, method, path, body, key string) (*answer, error) {
	resp, err := r.ask(ctx, method, path, body, key)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	return &answer{resp.StatusCode, resp.Header, text}, nil
}

// good is an answer with status 200, read into v.
func (a *answer) good(v any) error {
	if a.status != http.StatusOK {
		return want("status 200", a.summary())
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("the answer is not what it should be: %w", err)
	}
	return nil
}

// refused is an answer with one of those statuses, in OpenAI's shape.
func (a *answer) refused(statuses ...int) (*problem, error) {
	for _, s := range statuses {
		if a.status != s {
			continue
		}
		var envelope struct{ Error *problem }
		if json.Unmarshal(a.body, &envelope) != nil || envelope.Error == nil || envelope.Error.Message == "" {
			return nil, want("an error in OpenAI's shape", a.summary())
		}
		return envelope.Error, nil
	}
	return nil, want(fmt.Sprintf("status %d", statuses[0]), a.summary())
}

// summary is an answer in a few words.
func (a *answer) summary() string {
	const most = 160
	text := strings.Join(strings.Fields(string(a.body)), " ")
	var envelope struct{ Error *problem }
	if json.Unmarshal(a.body, &envelope) == nil && envelope.Error != nil {
		text = envelope.Error.Message
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return fmt.Sprintf("%d: %s", a.status, text)
}

// code is "401 invalid_api_key", or without a code the error's type.
func (p *problem) code(status int) string {
	word := p.Type
	if p.Code != nil {
		word = *p.Code
	}
	return fmt.Sprintf("%d %s", status, word)
}
