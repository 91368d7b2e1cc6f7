package openai

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestErrorBody(t *testing.T) {
	tests := []struct {
		name string
		err  Error
		want string
	}{
		{
			"absent values are null",
			Error{Status: 503, Type: TypeUnavailable, Message: "Busy."},
			`{"error":{"message":"Busy.","type":"service_unavailable_error","param":null,"code":null}}`,
		},
		{
			"numbers for programs",
			Error{
				Status: 429, Type: "tokens", Code: CodeRateLimit, Param: "n", Message: "Slow down.",
				Detail: &Detail{Limit: "tpm", Scope: "key", Used: 10, Max: 9, RetryAfterMS: 1500},
			},
			`{"error":{"message":"Slow down.","type":"tokens","param":"n","code":"rate_limit_exceeded","weir":{"limit":"tpm","scope":"key","used":10,"max":9,"retry_after_ms":1500}}}`,
		},
		{
			"quotes, line ends and markup",
			Error{Type: TypeServer, Message: "a \"b\"\n<fim> & \xff"},
			`{"error":{"message":"a \"b\"\n<fim> & ` + `\ufffd` + `","type":"server_error","param":null,"code":null}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(tt.err.Body())); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorHeaders(t *testing.T) {
	json := Header{"content-type", "application/json"}
	gateway := Header{"x-weir-error-source", "gateway"}
	tests := []struct {
		name string
		err  Error
		want []Header
	}{
		{"plain", Error{Status: 400}, []Header{json, gateway}},
		{
			"waits are rounded up",
			Error{Status: 429, RetryAfter: 1200*time.Millisecond + 1},
			[]Header{json, gateway, {"retry-after", "2"}, {"retry-after-ms", "1201"}},
		},
		{
			"sixty seconds can be waited for",
			Error{Status: 429, RetryAfter: time.Minute},
			[]Header{json, gateway, {"retry-after", "60"}, {"retry-after-ms", "60000"}},
		},
		{
			"longer waits are not worth a retry",
			Error{Status: 429, RetryAfter: time.Minute + 1},
			[]Header{json, gateway, {"retry-after", "61"}, {"retry-after-ms", "60001"}, {"x-should-retry", "false"}},
		},
		{
			"no retry helps",
			Error{Status: 429, NoRetry: true, Source: SourceUpstream},
			[]Header{json, {"x-weir-error-source", "upstream"}, {"x-should-retry", "false"}},
		},
		{"no key", Error{Status: 401}, []Header{json, gateway, {"www-authenticate", "Bearer"}}},
		{"wrong key", Error{Status: 401, Code: "invalid_api_key"}, []Header{json, gateway}},
		{"wrong method", Error{Status: 405, Allow: "POST"}, []Header{json, gateway, {"allow", "POST"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.err.Headers()); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorCause(t *testing.T) {
	err := &Error{Status: 502, Type: TypeServer, Message: "It failed.", Cause: io.ErrUnexpectedEOF}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is not unwrapped")
	}
	want := "502 server_error: It failed.: unexpected EOF"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestEndpoint(t *testing.T) {
	for _, e := range []Endpoint{ChatCompletions, Completions} {
		if got := EndpointOf(e.Path()); got != e {
			t.Errorf("EndpointOf(%q) = %v, want %v", e.Path(), got, e)
		}
	}
	for _, path := range []string{"", "/", "/v1/completions/", "/v1//completions", "/V1/completions", "/v1/chat/completions/batch"} {
		if got := EndpointOf(path); got != Unknown {
			t.Errorf("EndpointOf(%q) = %v, want unknown", path, got)
		}
	}
	if Unknown.Path() != "" || Unknown.String() != "unknown" {
		t.Errorf("unknown endpoint: path %q, name %q", Unknown.Path(), Unknown)
	}
}
