package simulator

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clocked notes when something is written.
type clocked struct {
	*httptest.ResponseRecorder
	start time.Time
	at    []time.Duration
	delay time.Duration // of each write
}

func (c *clocked) Write(p []byte) (int, error) {
	c.at = append(c.at, time.Since(c.start))
	time.Sleep(c.delay)
	return c.ResponseRecorder.Write(p)
}

// Chunks come at ttft + k × pace, also if writing takes its time. The first
// write is that of the role, and the last that of [DONE].
func TestPace(t *testing.T) {
	const ms = time.Millisecond
	tests := map[string]struct {
		script, members string
		delay           time.Duration
		want            []time.Duration
	}{
		"at once":      {"tokens=2", `"stream":true,`, 0, []time.Duration{0, 0, 0, 0}},
		"ttft":         {"tokens=2,ttft=50ms", `"stream":true,`, 0, []time.Duration{50 * ms, 50 * ms, 50 * ms, 50 * ms}},
		"pace":         {"tokens=3,pace=10ms", `"stream":true,`, 0, []time.Duration{0, 0, 10 * ms, 20 * ms, 20 * ms}},
		"both":         {"tokens=3,pace=10ms,ttft=50ms", `"stream":true,`, 0, []time.Duration{50 * ms, 50 * ms, 60 * ms, 70 * ms, 70 * ms}},
		"per":          {"tokens=3,per=2,pace=10ms", `"stream":true,`, 0, []time.Duration{0, 0, 10 * ms, 10 * ms}},
		"slow writes":  {"tokens=4,pace=10ms", `"stream":true,`, 4 * ms, []time.Duration{0, 4 * ms, 10 * ms, 20 * ms, 30 * ms, 34 * ms}},
		"plain":        {"tokens=3,pace=10ms,ttft=50ms", "", 0, []time.Duration{80 * ms}},
		"plain, per":   {"tokens=3,per=2,pace=10ms", "", 0, []time.Duration{20 * ms}},
		"fails early":  {"fail=status:503,ttft=1s", "", 0, []time.Duration{0}},
		"fails in due": {"tokens=3,pace=10ms,fail=error:1", `"stream":true,`, 0, []time.Duration{0, 0, 10 * ms, 10 * ms}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Models: []Model{{Name: "m", Script: parse(t, test.script)}}})
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(`{`+test.members+hello+`}`))
				r.Header.Set("Content-Type", "application/json")
				w := &clocked{ResponseRecorder: httptest.NewRecorder(), start: time.Now(), delay: test.delay}
				s.ServeHTTP(w, r)
				if diff := cmp.Diff(test.want, w.at); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				checkTimes(t, s.Ledger().Entries()[0], parse(t, test.script))
			})
		})
	}
}

// checkTimes checks the times in the ledger: nothing but sleeps takes time here.
func checkTimes(t *testing.T, e Entry, s Script) {
	t.Helper()
	if e.End.Before(e.Start) {
		t.Errorf("ends %s before it starts", e.Start.Sub(e.End))
	}
	if got := e.FirstToken.Sub(e.Start); s.Fail.Kind != FailStatus && got != s.TTFT {
		t.Errorf("first token after %s, want %s", got, s.TTFT)
	}
}

// A plain answer whose client leaves has the tokens generated until then.
func TestPlainClientGone(t *testing.T) {
	tests := map[string]struct {
		after time.Duration
		want  int64
	}{
		"before the first token": {40 * time.Millisecond, 0},
		"in the middle":          {85 * time.Millisecond, 2 * 3},
		"near the end":           {145 * time.Millisecond, 2 * 9},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Models: []Model{{Name: "m", Script: parse(t, "tokens=10,pace=10ms,ttft=50ms")}}})
				ctx, cancel := contextWithTimeout(t, test.after)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, chatPath, strings.NewReader(`{"n":2,`+hello+`}`))
				r.Header.Set("Content-Type", "application/json")
				s.ServeHTTP(httptest.NewRecorder(), r)
				e := s.Ledger().Entries()[0]
				if e.Completion != test.want || e.Outcome != OutcomeClientGone || e.UsageSent || e.Status != 0 {
					t.Errorf("ledger has %+v, want %d tokens", e, test.want)
				}
			})
		})
	}
}
