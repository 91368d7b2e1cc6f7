// Sdk-go drives weir with OpenAI's Go SDK and prints what the SDK made of it.
//
// One JSON line per case: {"case": "plain", "ok": true, "detail": {…}}. "ok"
// says that the call ended as such a call should; the facts in "detail" are for
// the caller to judge. The programs for Python and Node beside this one print
// the same.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

const (
	timeLimit    = 18 * time.Second // for everything
	prompt       = "Tell me about rivers."
	unknownModel = "no-such-model"
)

type facts map[string]any

type checks struct {
	url, key, limitedKey, model string
}

func main() {
	c := checks{os.Getenv("WEIR_URL"), os.Getenv("WEIR_KEY"), os.Getenv("WEIR_LIMITED_KEY"), os.Getenv("WEIR_MODEL")}
	if c.url == "" || c.key == "" || c.limitedKey == "" || c.model == "" || len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "usage: WEIR_URL=…/v1 WEIR_KEY=… WEIR_LIMITED_KEY=… WEIR_MODEL=… sdk-go")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()

	report(ctx, "plain", c.plain)
	report(ctx, "stream", c.stream)
	report(ctx, "stream_usage", c.streamUsage)
	report(ctx, "completions", c.completions)
	report(ctx, "bad_key", c.badKey)
	report(ctx, "rate_limit", c.rateLimit)
	report(ctx, "not_found", c.notFound)
	report(ctx, "models", c.models)
	report(ctx, "error_midstream", c.errorMidstream)
}

// report runs a case and prints its line. An error is one that the case did not
// ask for.
func report(ctx context.Context, name string, run func(context.Context) (bool, facts, error)) {
	ok, detail, err := run(ctx)
	if err != nil {
		ok = false
		detail = with(detail, errorFacts(err))
	}
	// Maps of plain values: encoding them cannot fail.
	line, _ := json.Marshal(map[string]any{"case": name, "ok": ok, "detail": detail})
	fmt.Println(string(line))
}

func (c checks) plain(ctx context.Context) (bool, facts, error) {
	client := c.client(c.key)
	answer, err := client.Chat.Completions.New(ctx, c.chat())
	if err != nil {
		return false, nil, err
	}
	if len(answer.Choices) == 0 {
		return false, facts{"message": "no choices"}, nil
	}
	content := answer.Choices[0].Message.Content
	return content != "", with(facts{
		"content":       content,
		"finish_reason": answer.Choices[0].FinishReason,
	}, usageFacts(answer.Usage)), nil
}

func (c checks) stream(ctx context.Context) (bool, facts, error) {
	f, err := c.read(ctx, c.chat())
	return f["text"] != "", f, err
}

func (c checks) streamUsage(ctx context.Context) (bool, facts, error) {
	params := c.chat()
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	f, err := c.read(ctx, params)
	return f["text"] != "", f, err
}

func (c checks) completions(ctx context.Context) (bool, facts, error) {
	client := c.client(c.key)
	answer, err := client.Completions.New(ctx, openai.CompletionNewParams{
		Model:  openai.CompletionNewParamsModel(c.model),
		Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(prompt)},
	})
	if err != nil {
		return false, nil, err
	}
	if len(answer.Choices) == 0 {
		return false, facts{"message": "no choices"}, nil
	}
	text := answer.Choices[0].Text
	return text != "", with(facts{
		"content":       text,
		"finish_reason": answer.Choices[0].FinishReason,
	}, usageFacts(answer.Usage)), nil
}

func (c checks) badKey(ctx context.Context) (bool, facts, error) {
	return c.refused(ctx, "sk-nobody-has-this-key", c.chat())
}

func (c checks) rateLimit(ctx context.Context) (bool, facts, error) {
	return c.refused(ctx, c.limitedKey, c.chat())
}

func (c checks) notFound(ctx context.Context) (bool, facts, error) {
	params := c.chat()
	params.Model = unknownModel
	return c.refused(ctx, c.key, params)
}

func (c checks) models(ctx context.Context) (bool, facts, error) {
	client := c.client(c.key)
	ids := []string{}
	pager := client.Models.ListAutoPaging(ctx)
	for pager.Next() {
		ids = append(ids, pager.Current().ID)
	}
	if err := pager.Err(); err != nil {
		return false, nil, err
	}
	model, err := client.Models.Get(ctx, c.model)
	if err != nil {
		return false, facts{"ids": ids}, err
	}
	return slices.Contains(ids, c.model), facts{"ids": ids, "retrieved": model.ID}, nil
}

func (c checks) errorMidstream(ctx context.Context) (bool, facts, error) {
	f, err := c.read(ctx, c.chat(), option.WithHeader("x-simulate", "fail=error:3,tokens=10"))
	if err == nil {
		return false, with(f, facts{"message": "the stream ended without an error"}), nil
	}
	_, ok := errors.AsType[*ssestream.StreamError](err)
	return ok, with(f, errorFacts(err)), nil
}

// client makes no retries: the facts are those of the first answer.
func (c checks) client(key string) openai.Client {
	return openai.NewClient(
		option.WithBaseURL(c.url),
		option.WithAPIKey(key),
		option.WithMaxRetries(0),
		option.WithRequestTimeout(10*time.Second),
	)
}

func (c checks) chat() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    c.model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
	}
}

// read reads a stream; the facts hold what came before an error too.
func (c checks) read(ctx context.Context, params openai.ChatCompletionNewParams, opts ...option.RequestOption) (facts, error) {
	var (
		text, finish  string
		chunks, empty int
		seen          bool
		last          = facts{"prompt_tokens": nil, "completion_tokens": nil}
	)
	client := c.client(c.key)
	stream := client.Chat.Completions.NewStreaming(ctx, params, opts...)
	defer stream.Close()
	for stream.Next() {
		chunk := stream.Current()
		chunks++
		last = facts{"prompt_tokens": nil, "completion_tokens": nil}
		if chunk.JSON.Usage.Valid() {
			seen = true
			last = usageFacts(chunk.Usage)
		}
		if len(chunk.Choices) == 0 {
			empty++
			continue
		}
		text += chunk.Choices[0].Delta.Content
		if reason := chunk.Choices[0].FinishReason; reason != "" {
			finish = reason
		}
	}
	return with(facts{
		"text":          text,
		"chunks":        chunks,
		"empty_choices": empty,
		"finish_reason": nullable(finish),
		"usage_seen":    seen,
	}, last), stream.Err()
}

// refused makes a call that is to be refused.
func (c checks) refused(ctx context.Context, key string, params openai.ChatCompletionNewParams) (bool, facts, error) {
	client := c.client(key)
	_, err := client.Chat.Completions.New(ctx, params)
	if err == nil {
		return false, facts{"message": "the call was not refused"}, nil
	}
	_, ok := errors.AsType[*openai.Error](err)
	return ok, errorFacts(err), nil
}

// errorFacts says what the SDK lets a program know about an error.
func errorFacts(err error) facts {
	f := facts{
		"class": fmt.Sprintf("%T", err), "message": err.Error(),
		"status": nil, "type": nil, "code": nil, "param": nil, "request_id": nil, "retry_after": nil,
	}
	if e, ok := errors.AsType[*openai.Error](err); ok {
		f["class"] = fmt.Sprintf("%T", e)
		f["message"] = e.Message
		f["status"] = e.StatusCode
		f["type"] = nullable(e.Type)
		f["code"] = nullable(e.Code)
		f["param"] = nullable(e.Param)
		if e.Response != nil {
			f["request_id"] = nullable(e.Response.Header.Get("x-request-id"))
			f["retry_after"] = nullable(e.Response.Header.Get("retry-after"))
		}
	}
	if e, ok := errors.AsType[*ssestream.StreamError](err); ok {
		f["class"] = fmt.Sprintf("%T", e)
		// The SDK leaves reading the event to the program.
		var event struct {
			Error struct{ Message, Type, Code, Param *string }
		}
		if json.Unmarshal(e.Event.Data, &event) == nil {
			f["type"], f["code"], f["param"] = event.Error.Type, event.Error.Code, event.Error.Param
		}
	}
	return f
}

func usageFacts(u openai.CompletionUsage) facts {
	return facts{"prompt_tokens": u.PromptTokens, "completion_tokens": u.CompletionTokens}
}

// with returns f with more in it.
func with(f, more facts) facts {
	if f == nil {
		f = facts{}
	}
	maps.Copy(f, more)
	return f
}

// nullable returns nil for what the SDK tells as an empty string.
func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}
