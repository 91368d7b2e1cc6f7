package ratelimit_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // time zones wherever the tests run

	"pgregory.net/rapid"

	"github.com/weir-gateway/weir/ratelimit"
)

func zone(tb testing.TB, name string) *time.Location {
	tb.Helper()
	location, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return location
}

func TestNewErrors(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	slots := ratelimit.Spec{Name: "l", Unit: ratelimit.Concurrency, Max: 5}
	day := ratelimit.Spec{Name: "l", Unit: ratelimit.Tokens, Max: 5, Calendar: ratelimit.Day}
	minute := ratelimit.Spec{Name: "l", Unit: ratelimit.Tokens, Max: 5, Window: time.Minute}
	with := func(s ratelimit.Spec, change func(s *ratelimit.Spec)) ratelimit.Spec {
		change(&s)
		return s
	}
	for want, spec := range map[string]ratelimit.Spec{
		"unknown precision 2":                    with(minute, func(s *ratelimit.Spec) { s.Precision = 2 }),
		"time zone Europe/Berlin for a window":   with(minute, func(s *ratelimit.Spec) { s.Location = berlin }),
		"burst of 4: want at least the limit":    with(minute, func(s *ratelimit.Spec) { s.Burst = 4 }),
		"burst of -1: want at least the limit":   with(minute, func(s *ratelimit.Spec) { s.Burst = -1 }),
		"both a calendar day and a window of 1m": with(day, func(s *ratelimit.Spec) { s.Window = time.Minute }),
		"a calendar day has no rate":             with(day, func(s *ratelimit.Spec) { s.Burst = 9 }),
		"precision of a calendar day":            with(day, func(s *ratelimit.Spec) { s.Precision = ratelimit.HighPrecision }),
		"unknown calendar 9":                     with(day, func(s *ratelimit.Spec) { s.Calendar = 9 }),
		"time zone of this machine":              with(day, func(s *ratelimit.Spec) { s.Location = time.Local }),
		"concurrency over a calendar":            with(slots, func(s *ratelimit.Spec) { s.Calendar = ratelimit.Day }),
		"concurrency has no rate":                with(slots, func(s *ratelimit.Spec) { s.Burst = 9 }),
		"precision of concurrency":               with(slots, func(s *ratelimit.Spec) { s.Precision = ratelimit.HighPrecision }),
	} {
		l, err := ratelimit.New(spec)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%+v) = %v, error %v, want one with %q", spec, l, err, want)
		}
	}
}

func TestNewOfACalendar(t *testing.T) {
	l, err := ratelimit.New(ratelimit.Spec{
		Name: "out", Unit: ratelimit.OutputTokens, Max: 7, Calendar: ratelimit.Week, Location: zone(t, "Asia/Tokyo"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.ID().String(), "out/output_tokens/week/Asia/Tokyo"; got != want {
		t.Errorf("ID = %q, want %q", got, want)
	}
	if got, want := l.String(), "out: 7 output_tokens in week"; got != want {
		t.Errorf("limit = %q, want %q", got, want)
	}
	if l.Step() != 0 || l.Buckets() != 0 || l.Window != 7*24*time.Hour {
		t.Errorf("%d buckets of %s in %s, want none in a week", l.Buckets(), l.Step(), l.Window)
	}
}

func TestNewWithPrecision(t *testing.T) {
	l, err := ratelimit.New(ratelimit.Spec{
		Name: "l", Unit: ratelimit.Tokens, Max: 7, Window: time.Minute, Precision: ratelimit.HighPrecision,
	})
	if err != nil || l.Step() != time.Second || l.Buckets() != 60 {
		t.Errorf("%v, error %v: %d buckets of %s, want 60 of 1s", l, err, l.Buckets(), l.Step())
	}
}

func TestPeriod(t *testing.T) {
	cases := []struct {
		name, zone     string
		calendar       ratelimit.Calendar
		at, start, end string
	}{
		{"a day", "Europe/Berlin", ratelimit.Day, "2026-03-01T22:30:00Z", "2026-02-28T23:00:00Z", "2026-03-01T23:00:00Z"},
		{"its first instant", "Europe/Berlin", ratelimit.Day, "2026-02-28T23:00:00Z", "2026-02-28T23:00:00Z", "2026-03-01T23:00:00Z"},
		{"of 23 hours", "Europe/Berlin", ratelimit.Day, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"of 25 hours", "Europe/Berlin", ratelimit.Day, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"from one o'clock on", "America/Havana", ratelimit.Day, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},
		{"before it", "America/Havana", ratelimit.Day, "2026-03-08T04:30:00Z", "2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z"},
		{"from one o'clock on, in the east", "Asia/Beirut", ratelimit.Day, "2026-03-28T23:30:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"},
		{"which ends twice", "America/Santiago", ratelimit.Day, "2026-04-05T03:30:00Z", "2026-04-04T03:00:00Z", "2026-04-05T04:00:00Z"},
		{"a date that was left out", "Pacific/Apia", ratelimit.Day, "2011-12-30T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"a week on Sunday", "UTC", ratelimit.Week, "2026-03-01T23:59:59Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"a week on Monday", "UTC", ratelimit.Week, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"},
		{"a month", "Asia/Tokyo", ratelimit.Month, "2026-02-28T14:59:59Z", "2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z"},
		{"a month of a leap year", "UTC", ratelimit.Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			l := calendarLimit(t, tc.calendar, zone(t, tc.zone))
			at, err := time.Parse(time.RFC3339, tc.at)
			if err != nil {
				t.Fatal(err)
			}
			start, end := l.Period(at)
			gotStart, gotEnd := start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339)
			if gotStart != tc.start || gotEnd != tc.end {
				t.Errorf("period of %s is %s to %s, want %s to %s", tc.at, gotStart, gotEnd, tc.start, tc.end)
			}
		})
	}
}

// TestPeriodsTile: whatever the time zone, periods follow each other without a
// gap or an overlap, and each time is in its own.
func TestPeriodsTile(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Santiago", "America/St_Johns",
		"Asia/Beirut", "Asia/Amman", "Africa/Cairo", "Atlantic/Azores", "Australia/Lord_Howe", "Pacific/Apia",
	}
	rapid.Check(t, func(rt *rapid.T) {
		location := zone(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		l := calendarLimit(t, rapid.SampledFrom([]ratelimit.Calendar{ratelimit.Day, ratelimit.Week, ratelimit.Month}).Draw(rt, "calendar"), location)
		at := time.Unix(rapid.Int64Range(0, 2e9).Draw(rt, "at"), 0)
		start, end := l.Period(at)
		if start.After(at) || !end.After(at) {
			rt.Fatalf("period of %s is %s to %s", at, start, end)
		}
		for _, same := range []time.Time{start, end.Add(-1)} {
			if s, e := l.Period(same); !s.Equal(start) || !e.Equal(end) {
				rt.Fatalf("period of %s is %s to %s, that of %s %s to %s", at, start, end, same, s, e)
			}
		}
		if s, _ := l.Period(end); !s.Equal(end) {
			rt.Fatalf("the period after %s begins at %s", end, s)
		}
		if length := end.Sub(start); length > l.Window+2*time.Hour || length < l.Window*9/10-2*time.Hour && l.Calendar != ratelimit.Day {
			rt.Fatalf("period of %s is %s long", at, length)
		}
	})
}

func calendarLimit(tb testing.TB, c ratelimit.Calendar, location *time.Location) *ratelimit.Limit {
	tb.Helper()
	l, err := ratelimit.New(ratelimit.Spec{Name: "l", Unit: ratelimit.Tokens, Max: 1, Calendar: c, Location: location})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestCalendarString(t *testing.T) {
	for c, want := range map[ratelimit.Calendar]string{
		ratelimit.NoCalendar: "", ratelimit.Day: "day", ratelimit.Week: "week", ratelimit.Month: "month",
	} {
		if got := c.String(); got != want {
			t.Errorf("Calendar(%d) = %q, want %q", c, got, want)
		}
	}
}
