package config

import (
	"fmt"
	"strconv"
	"time"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// LimitMessages turns rules back into messages, as they would stand in a file.
func LimitMessages(list []Limit) (out []*configv1.Limit) {
	for i := range list {
		out = append(out, limitMessage(&list[i]))
	}
	return out
}

func limitMessage(l *Limit) *configv1.Limit {
	out := &configv1.Limit{Name: l.Name, Burst: l.Burst, Shadow: l.Shadow}
	for _, p := range l.Per {
		for message, scope := range scopes {
			if scope == p {
				out.Per = append(out.Per, message)
			}
		}
	}
	for message, failure := range failures {
		if failure == l.OnFailure && failure != FailLocal {
			out.OnStoreFailure = message
		}
	}
	if l.Precise {
		out.Precision = "high"
	}
	if l.Location != nil {
		out.Timezone = l.Location.String()
	}
	switch l.Reserve {
	case ReserveMax:
	case ReserveLearned:
		out.Reserve = "learned"
	case ReserveFixed:
		out.Reserve = fmt.Sprintf("fixed:%d", l.Fixed)
	}
	if l.WhenPlan != "" {
		out.When = &configv1.When{Plan: l.WhenPlan}
	}
	switch rate := rateText(l); l.Unit {
	case Requests:
		out.Requests = rate
	case Tokens:
		out.Tokens = rate
	case InputTokens:
		out.InputTokens = rate
	case OutputTokens:
		out.OutputTokens = rate
	case Concurrency:
		out.Concurrency = l.Amount
	}
	return out
}

// rateText is what rate reads.
func rateText(l *Limit) string {
	text := strconv.FormatInt(l.Amount, 10) + "/"
	for name, c := range calendars {
		if c == l.Calendar {
			return text + name
		}
	}
	for _, unit := range []struct {
		name string
		span time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		switch {
		case l.Window == unit.span:
			return text + unit.name
		case l.Window%unit.span == 0:
			return text + strconv.FormatInt(int64(l.Window/unit.span), 10) + unit.name
		}
	}
	return text // no window of a configuration
}
