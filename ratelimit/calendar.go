package ratelimit

import "time"

// Calendar is the period of a calendar that a limit holds for. Unlike a window,
// which slides, it begins at midnight in a time zone, and all that was charged
// leaves at once when the next one begins.
type Calendar uint8

// The periods. A limit has either one of them or a window.
const (
	NoCalendar Calendar = iota
	Day
	Week // from Monday on
	Month
)

// String answers the period's name in the configuration, or "" for none.
func (c Calendar) String() string {
	switch c {
	case Day:
		return "day"
	case Week:
		return "week"
	case Month:
		return "month"
	case NoCalendar:
	}
	return ""
}

// nominal is how long a period is at most, but for a day whose clock is set.
func (c Calendar) nominal() time.Duration {
	days := map[Calendar]time.Duration{Day: 1, Week: 7, Month: 31}
	return days[c] * 24 * time.Hour
}

// Period answers the calendar period of a time: its first instant and that of
// the next one. Both are zero for a limit that has a window.
func (l *Limit) Period(at time.Time) (start, end time.Time) {
	if l.Calendar == NoCalendar {
		return start, end
	}
	n := 0
	for start = l.midnight(at, n); start.After(at); start = l.midnight(at, n) {
		n--
	}
	for end = l.midnight(at, n+1); !end.After(at); end = l.midnight(at, n+1) {
		start = end
		n++
	}
	return start, end
}

// midnight is when the n-th period after that of the given time begins.
//
// Near a change of the clock the date alone does not tell on which side of a
// midnight a time is: Period therefore compares instants.
func (l *Limit) midnight(of time.Time, n int) time.Time {
	year, month, day := of.In(l.location).Date()
	switch l.Calendar {
	case Day:
		day += n
	case Week:
		sinceMonday := (int(of.In(l.location).Weekday()) + 6) % 7
		day += 7*n - sinceMonday
	case Month:
		month, day = month+time.Month(n), 1
	case NoCalendar:
	}
	begin := time.Date(year, month, day, 0, 0, 0, 0, l.location)
	if begin.Hour() != 0 {
		// There is no midnight: the clock was put forward at it, and Date took
		// either the hour before or the one after.
		if _, end := begin.ZoneBounds(); begin.Hour() > 12 && !end.IsZero() {
			return end
		}
	}
	return begin
}
