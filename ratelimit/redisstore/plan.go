package redisstore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// The keys; the hash tag keeps them in one slot.
const (
	timeKey      = "{weir0}:t"
	windowPrefix = "{weir0}:w:"
	leasePrefix  = "{weir0}:c:"
	queuePrefix  = "{weir0}:q:"
)

func receiptKey(id ratelimit.ID) string { return queuePrefix + id.String() }

// plan tells a script where charges are counted; see lua/plan.lua.
type plan struct {
	keys []string
	args []any
}

// add appends the plan of the charges: a group for each hash, one for each set.
// The time is that of which calendars take the period before and after.
func (p *plan) add(charges []ratelimit.Charge, now time.Time) error {
	done := make([]bool, len(charges))
	for i := range charges {
		c := &charges[i]
		if err := checkText(c); err != nil {
			return fmt.Errorf("charge %d: %w", i, err)
		}
		switch {
		case done[i]:
		case c.Limit.Unit == ratelimit.Concurrency:
			p.keys = append(p.keys, leasePrefix+c.Limit.ID().String()+":"+c.Scope)
			p.args = append(p.args, "c", leaseRule(i, c.Limit))
		default:
			p.addWindows(charges, i, done, now)
		}
	}
	return nil
}

// addWindows appends the group of the hash of charges[first].
func (p *plan) addWindows(charges []ratelimit.Charge, first int, done []bool, now time.Time) {
	var group []int
	for i := first; i < len(charges); i++ {
		if charges[i].Limit.Unit != ratelimit.Concurrency && charges[i].Scope == charges[first].Scope {
			group = append(group, i)
			done[i] = true
		}
	}
	p.keys = append(p.keys, windowPrefix+charges[first].Scope)
	p.args = append(p.args, "w"+strconv.Itoa(len(group)))
	for _, i := range group {
		p.args = append(p.args, charges[i].Limit.ID().String())
	}
	for _, i := range group {
		p.args = append(p.args, windowRule(i, &charges[i], now))
	}
}

// windowRule is "index limit cost shadow step size [periods]", the step in µs.
func windowRule(index int, c *ratelimit.Charge, now time.Time) string {
	l := c.Limit
	rule := numbers(make([]byte, 0, 64), int64(index), l.Max, c.Cost, shadow(l), l.Step().Microseconds(), int64(l.Buckets()))
	if l.Calendar != ratelimit.NoCalendar {
		start, end := l.Period(now)
		before, _ := l.Period(start.Add(-time.Second))
		_, after := l.Period(end)
		rule = numbers(append(rule, ' '), before.Unix(), start.Unix(), end.Unix(), after.Unix())
	}
	return string(rule)
}

// leaseRule is "index limit shadow".
func leaseRule(index int, l *ratelimit.Limit) string {
	return string(numbers(make([]byte, 0, 32), int64(index), l.Max, shadow(l)))
}

func shadow(l *ratelimit.Limit) int64 {
	if l.Shadow {
		return 1
	}
	return 0
}

// numbers appends them in decimal, with spaces between.
func numbers(text []byte, list ...int64) []byte {
	for i, n := range list {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, n, 10)
	}
	return text
}

// checkText refuses what would break a receipt's lines.
func checkText(c *ratelimit.Charge) error {
	control := func(r rune) bool { return r < ' ' }
	if c.Limit == nil {
		return fmt.Errorf("no limit")
	}
	if strings.ContainsFunc(c.Scope, control) || strings.ContainsFunc(c.Limit.Name, control) {
		return fmt.Errorf("limit %q of scope %q: want no control characters", c.Limit.Name, c.Scope)
	}
	return nil
}
