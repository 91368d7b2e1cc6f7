package storetest

import (
	"time"
	_ "time/tzdata" // time zones wherever the tests run

	"github.com/weir-gateway/weir/ratelimit"
)

// calendars tells how limits of a calendar period count.
func calendars() []scenario {
	return []scenario{
		{"a day ends at midnight of its time zone", dayEnds},
		{"a day in spring has 23 hours", dayOf23Hours},
		{"a day in autumn has 25 hours", dayOf25Hours},
		{"a day may begin at one o'clock", dayWithoutMidnight},
		{"a week begins on Monday", weekEnds},
		{"a month has its own length", monthEnds},
		{"time zones count apart", zonesApart},
		{"a refund is no capacity of the next period", refundNextPeriod},
		{"an overage is debt of the period it is told in", overageNextPeriod},
		{"a clock set back does not bring back a period", periodSetBack},
		{"a calendar and a window in one request", calendarAndWindow},
	}
}

// spec builds a limit that is right.
func spec(s ratelimit.Spec) *ratelimit.Limit {
	l, err := ratelimit.New(s)
	if err != nil {
		panic(err)
	}
	return l
}

func zone(name string) *time.Location {
	location, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return location
}

// quota is a limit of 10 requests per period.
func quota(c ratelimit.Calendar, location string) *ratelimit.Limit {
	return spec(ratelimit.Spec{Name: "quota", Unit: ratelimit.Requests, Max: 10, Calendar: c, Location: zone(location)})
}

// at sets the clock forward to a time of day in a zone.
func (f *fixture) at(location, text string) {
	f.Helper()
	at, err := time.ParseInLocation(time.DateTime, text, zone(location))
	if err != nil || at.Before(f.clock.Now()) {
		f.Fatalf("clock to %s: error %v, and it is %s", text, err, f.clock.Now())
	}
	f.clock.Advance(at.Sub(f.clock.Now()))
}

// lasts uses a limit up, and wants it to hold for exactly so long.
func (f *fixture) lasts(l *ratelimit.Limit, want time.Duration) {
	f.Helper()
	c := of(l, 1)
	for range l.Max {
		f.mustAdmit(c)
	}
	d := f.mustRefuse(c)
	if d.RetryAfter != want || d.States[0].Reset != want {
		f.Errorf("refused for %s with a reset in %s, want %s", d.RetryAfter, d.States[0].Reset, want)
	}
	f.clock.Advance(want - time.Millisecond)
	f.mustRefuse(c)
	f.clock.Advance(time.Millisecond)
	f.used(0, c)
	f.mustAdmit(c)
}

func dayEnds(f *fixture) {
	f.at("Europe/Berlin", "2026-03-01 20:00:00")
	f.lasts(quota(ratelimit.Day, "Europe/Berlin"), 4*time.Hour)
}

func dayOf23Hours(f *fixture) {
	f.at("Europe/Berlin", "2026-03-29 00:30:00")
	f.lasts(quota(ratelimit.Day, "Europe/Berlin"), 22*time.Hour+30*time.Minute)
}

func dayOf25Hours(f *fixture) {
	f.at("Europe/Berlin", "2026-10-25 00:30:00")
	f.lasts(quota(ratelimit.Day, "Europe/Berlin"), 24*time.Hour+30*time.Minute)
}

func dayWithoutMidnight(f *fixture) {
	f.at("America/Havana", "2026-03-07 22:00:00")
	f.lasts(quota(ratelimit.Day, "America/Havana"), 2*time.Hour)
	f.clock.Advance(24 * time.Hour)
	f.used(0, of(quota(ratelimit.Day, "America/Havana"), 1))
}

func weekEnds(f *fixture) {
	f.at("Asia/Tokyo", "2026-03-02 00:00:00") // a Monday
	f.lasts(quota(ratelimit.Week, "Asia/Tokyo"), 7*24*time.Hour)
}

func monthEnds(f *fixture) {
	f.at("UTC", "2026-12-31 23:00:00")
	f.lasts(quota(ratelimit.Month, "UTC"), time.Hour)
	f.at("UTC", "2027-02-01 00:00:00")
	f.lasts(quota(ratelimit.Month, "UTC"), 28*24*time.Hour)
}

func zonesApart(f *fixture) {
	berlin, tokyo := of(quota(ratelimit.Day, "Europe/Berlin"), 1), of(quota(ratelimit.Day, "Asia/Tokyo"), 1)
	f.mustAdmit(berlin, tokyo)
	f.at("Asia/Tokyo", "2026-03-02 00:00:00")
	f.used(1, berlin)
	f.used(0, tokyo)
	if berlin.Limit.ID() == of(quota(ratelimit.Week, "Europe/Berlin"), 1).Limit.ID() {
		f.Error("a day and a week are one limit")
	}
}

func refundNextPeriod(f *fixture) {
	c := of(quota(ratelimit.Day, "UTC"), 4)
	f.at("UTC", "2026-03-01 23:59:00")
	old, kept := f.mustAdmit(c), f.mustAdmit(c)
	f.settle(kept, 1)
	f.used(5, c)
	f.clock.Advance(2 * time.Minute)
	f.mustAdmit(c)
	f.cancel(old)
	f.used(4, c)
}

func overageNextPeriod(f *fixture) {
	c := of(quota(ratelimit.Day, "UTC"), 4)
	f.at("UTC", "2026-03-01 23:59:00")
	id := f.mustAdmit(c)
	f.clock.Advance(2 * time.Minute)
	f.settle(id, 11)
	f.used(7, c)
}

func periodSetBack(f *fixture) {
	c := of(quota(ratelimit.Day, "UTC"), 6)
	f.at("UTC", "2026-03-01 23:59:59")
	f.mustAdmit(c)
	f.clock.Advance(2 * time.Second)
	f.mustAdmit(c)
	f.clock.Advance(-5 * time.Second)
	f.mustRefuse(c)
	f.clock.Advance(time.Hour)
	f.used(6, c)
}

func calendarAndWindow(f *fixture) {
	day := of(quota(ratelimit.Day, "Europe/Berlin"), 1)
	minute := of(limit("rpm", ratelimit.Requests, 2, time.Minute), 1)
	id := f.mustAdmit(minute, day, slots(5))
	f.mustAdmit(minute, day)
	if d := f.mustRefuse(day, minute); d.Refused != 1 {
		f.Errorf("refused by %+v, want charge 1", d)
	}
	f.used(2, day, minute)
	f.settle(id, 0, 3, 0)
	f.used(4, day)
	f.used(1, minute)
}
