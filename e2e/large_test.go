package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestTooLarge: what says that it is too large is refused at once, however large it
// is, and only to who has a key.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: "envoy: {max_request_bytes: 100000}"})
	for _, size := range []int{90_000, 110_000, 150_000, 400_000, 9_000_000, 30_000_000} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got, err := r.try(ctx, http.MethodPost, "/v1/chat/completions", chat(`"x":"`+strings.Repeat("x", size)+`"`))
		cancel()
		switch {
		case err != nil:
			t.Errorf("%d bytes: %v", size, err)
		case size < 100_000 && got.status != http.StatusOK, size > 100_000 && (got.status != http.StatusRequestEntityTooLarge || got.code() != "request_too_large"):
			t.Errorf("%d bytes: status %d, body %s", size, got.status, got.body)
		}
	}
	got := r.do(http.MethodPost, "/v1/messages", strings.Repeat("x", 110_000))
	if got.status != http.StatusRequestEntityTooLarge || !strings.HasPrefix(got.body, `{"type":"error","error":{"type":"request_too_large"`) {
		t.Errorf("status %d, body %s", got.status, got.body)
	}
	if got := r.post(strings.Repeat("x", 110_000), "Authorization", "sk-nobody-has-this-key"); got.status != http.StatusUnauthorized {
		t.Errorf("without a key: status %d", got.status)
	}
}
