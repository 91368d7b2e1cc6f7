package pool

import (
	"testing"
	"time"
)

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   Class
	}{
		{200, "", OK},
		{204, "", OK},
		{0, "", Disconnect},
		{400, "", RequestFault},
		{400, "context_length_exceeded", RequestFault},
		{401, "", Rejected},
		{401, "invalid_api_key", Rejected},
		{401, "invalid_request_error", Rejected}, // OpenAI's type of a wrong key
		{402, "", Unpaid},
		{403, "", Rejected},
		{403, "invalid_api_key", Rejected},
		{403, "content_policy_violation", RequestFault},
		{403, "unsupported_country_region_territory", RequestFault},
		{404, "model_not_found", RequestFault},
		{408, "", Timeout},
		{413, "", RequestFault},
		{422, "", RequestFault},
		{429, "", RateLimited},
		{429, "rate_limit_exceeded", RateLimited},
		{429, "insufficient_quota", Unpaid},
		{403, "insufficient_quota", Unpaid},
		{400, "insufficient_quota", Unpaid},
		{500, "", ServerError},
		{500, "content_filter", RequestFault},
		{503, "server_is_overloaded", ServerError},
		{504, "", ServerError},
	} {
		if got := ClassOf(c.status, c.code); got != c.want {
			t.Errorf("ClassOf(%d, %q) = %s, want %s", c.status, c.code, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Classes() {
		text, err := c.MarshalText()
		if err != nil || len(text) == 0 || seen[string(text)] {
			t.Errorf("class %d is %q, error %v; want a name of its own", c, text, err)
		}
		seen[string(text)] = true
	}
	for s := range states {
		text, err := s.MarshalText()
		var back State
		if err != nil || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("state %d is %q, which is read as %d", s, text, back)
		}
	}
	if err := new(State).UnmarshalText([]byte("ill")); err == nil {
		t.Error("an unknown state is read without error")
	}
	if got := Class(99).String() + State(99).String(); got != "class(99)state(99)" {
		t.Errorf("unknown ones are %s", got)
	}
}

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestRetryAfter(t *testing.T) {
	type headers map[string]string
	for name, c := range map[string]struct {
		headers headers
		want    time.Duration
	}{
		"none":                {nil, 0},
		"seconds":             {headers{"retry-after": "20"}, 20 * time.Second},
		"spaces":              {headers{"retry-after": " 20 "}, 20 * time.Second},
		"part of a second":    {headers{"retry-after": "0.25"}, 250 * time.Millisecond},
		"zero":                {headers{"retry-after": "0"}, 0},
		"negative":            {headers{"retry-after": "-5"}, 0},
		"date":                {headers{"retry-after": "Sun, 01 Mar 2026 12:01:30 GMT"}, 90 * time.Second},
		"date that is past":   {headers{"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0},
		"date far off":        {headers{"retry-after": "Sun, 01 Mar 2099 11:00:00 GMT"}, 24 * time.Hour},
		"huge":                {headers{"retry-after": "1e300"}, 24 * time.Hour},
		"infinite":            {headers{"retry-after": "inf"}, 24 * time.Hour},
		"not a number":        {headers{"retry-after": "nan"}, 0},
		"garbage":             {headers{"retry-after": "soon"}, 0},
		"ms before seconds":   {headers{"retry-after-ms": "1500", "retry-after": "2"}, 1500 * time.Millisecond},
		"before resets":       {headers{"retry-after": "2", "x-ratelimit-reset-tokens": "6m0s"}, 2 * time.Second},
		"zero before resets":  {headers{"retry-after": "0", "x-ratelimit-reset-tokens": "6m0s"}, 0},
		"garbage then resets": {headers{"retry-after": "soon", "x-ratelimit-reset-tokens": "6m0s"}, 6 * time.Minute},
		"reset of requests":   {headers{"x-ratelimit-reset-requests": "12ms"}, 12 * time.Millisecond},
		"the larger reset":    {headers{"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "2m59.56s"}, 2*time.Minute + 59560*time.Millisecond},
		"resets in seconds":   {headers{"x-ratelimit-reset-requests": "7", "x-ratelimit-reset-tokens": "3.5"}, 7 * time.Second},
		"reset negative":      {headers{"x-ratelimit-reset-requests": "-1s"}, 0},
		"reset garbage":       {headers{"x-ratelimit-reset-requests": "later"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := RetryAfter(func(h string) string { return c.headers[h] }, testNow); got != c.want {
				t.Errorf("RetryAfter(%v) = %s, want %s", c.headers, got, c.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"20", "-1", "1e99", "Sun, 01 Mar 2026 12:01:30 GMT", "6m0s", "nan", "9999999999999h"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, after, reset string) {
		got := RetryAfter(func(name string) string {
			if name == "retry-after" {
				return after
			}
			return reset
		}, testNow)
		if got < 0 || got > longestTold {
			t.Errorf("RetryAfter(%q, %q) = %s, want it from 0 to %s", after, reset, got, longestTold)
		}
	})
}
