package smoke

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// Options say what to try.
type Options struct {
	URL     string // with or without /v1
	Key     string // of a client
	Model   string // ""; the first of the list
	Timeout time.Duration
	Client  *http.Client
}

// Outcome is what became of a check.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it could not be tried
)

// Result is what a check has found.
type Result struct {
	Check   string        `json:"check"`
	Outcome Outcome       `json:"outcome"`
	Took    time.Duration `json:"-"`
	TookMS  float64       `json:"took_ms"`
	Says    string        `json:"says"` // for people
}

// errSkipped is why something cannot be tried.
type errSkipped struct{ error }

// run is one run of all checks.
type run struct {
	opts  Options
	base  string // without /v1
	model string // that is asked
	list  []model
}

// check finds out about one thing, and says what it has found.
type check struct {
	name string
	try  func(*run, context.Context) (says string, err error)
}

var checks = []check{
	{"health", (*run).health},
	{"models", (*run).models},
	{"answer", (*run).answer},
	{"stream", (*run).stream},
	{"own key", (*run).ownKey},
	{"context limit", (*run).contextLimit},
	{"wrong key", (*run).wrongKey},
	{"no key", (*run).noKey},
	{"bad JSON", (*run).badJSON},
	{"unknown model", (*run).unknownModel},
	{"unknown path", (*run).unknownPath},
}

// Run tries everything, and tells of each check as it ends.
func Run(ctx context.Context, opts Options, tell func(Result)) (ok bool) {
	r := &run{opts: opts, base: strings.TrimSuffix(strings.TrimRight(opts.URL, "/"), "/v1"), model: opts.Model}
	ok = true
	for _, c := range checks {
		begin := time.Now()
		within, cancel := context.WithTimeout(ctx, opts.Timeout)
		says, err := c.try(r, within)
		cancel()
		res := Result{Check: c.name, Outcome: OK, Took: time.Since(begin), Says: r.clean(says)}
		res.TookMS = float64(res.Took.Microseconds()) / 1000
		switch skipped := (errSkipped{}); {
		case errors.As(err, &skipped):
			res.Outcome, res.Says = Skipped, r.clean(err.Error())
		case err != nil:
			res.Outcome, res.Says, ok = Failed, r.clean(err.Error()), false
		}
		tell(res)
	}
	return ok
}

// clean keeps the key, and what would steer a terminal, out of what is told.
func (r *run) clean(text string) string {
	if r.opts.Key != "" {
		text = strings.ReplaceAll(text, r.opts.Key, "(the key)")
	}
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsPrint(c):
			return c
		case unicode.IsSpace(c):
			return ' '
		}
		return -1
	}, text)
}

// want is an error for what is not as it must be.
func want(what string, got any) error { return fmt.Errorf("want %s, got %v", what, got) }
