package pool

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// longestTold bounds what a header can say, far above what the pool obeys.
const longestTold = 24 * time.Hour

// RetryAfter is how long an upstream wants to be left alone, by the headers of its
// answer, whose names are asked for in lower case: retry-after-ms, retry-after
// (seconds or a date: RFC 9110, section 10.2.3), else the larger of
// x-ratelimit-reset-requests and x-ratelimit-reset-tokens, which are seconds or
// durations such as 6m0s. It is 0 if none of them tells.
func RetryAfter(header func(name string) string, now time.Time) time.Duration {
	if d, ok := told(header("retry-after-ms"), time.Millisecond); ok {
		return d
	}
	text := header("retry-after")
	if d, ok := told(text, time.Second); ok {
		return d
	}
	if at, err := http.ParseTime(strings.TrimSpace(text)); err == nil {
		return min(max(0, at.Sub(now)), longestTold)
	}
	return max(reset(header("x-ratelimit-reset-requests")), reset(header("x-ratelimit-reset-tokens")))
}

// reset reads one of x-ratelimit-reset-*; 0 if it can not.
func reset(text string) time.Duration {
	if d, ok := told(text, time.Second); ok {
		return d
	}
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return min(max(0, d), longestTold)
}

// told reads a number of units.
func told(text string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(n) {
		return 0, false
	}
	n *= float64(unit)
	if n >= float64(longestTold) {
		return longestTold, true
	}
	return time.Duration(max(0, n)), true
}
