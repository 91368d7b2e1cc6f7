package dashboard

import (
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"
)

func TestNumber(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", .004: "< 0.01", .25: "0.25", 2: "2", 2.5: "2.5", 12.34: "12.3", 123.4: "123", 999.4: "999", 999.6: "1 k",
		1234: "1.23 k", 45_600_000: "45.6 M", 7_000_000_000: "7 G", 8e12: "8 T",
	} {
		if got := number(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[any]string{
		0: "0", int32(7): "7", int64(999): "999", 1000: "1\u202f000", 1234567.0: "1\u202f234\u202f567", -1500: "−1\u202f500", "?": "0",
	} {
		if got := count(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
	if a, b := plural(1, "key"), plural(2, "key"); a != "1 key" || b != "2 keys" {
		t.Errorf("%q, %q", a, b)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0.0 ms", 2500 * time.Microsecond: "2.5 ms", 250 * time.Millisecond: "250 ms", 1500 * time.Millisecond: "1.5 s",
		42 * time.Second: "42 s", time.Minute: "1 min", 90 * time.Second: "1 min 30 s", 25 * time.Hour: "1 d 1 h", 3 * time.Hour: "3 h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		used, most   float64
		width, level string
	}{
		{0, 10, "0.0", "fine"},
		{5, 10, "50.0", "fine"},
		{8, 10, "80.0", "high"},
		{10, 10, "100.0", "full"},
		{15, 10, "100.0", "full"},
		{-3, 10, "0.0", "fine"},
		{1, 0, "0.0", "fine"},
	} {
		b := bar{Used: c.used, Max: c.most}
		if b.Width() != c.width || b.Level() != c.level {
			t.Errorf("%v of %v: %s, %s", c.used, c.most, b.Width(), b.Level())
		}
	}
}

func TestSentence(t *testing.T) {
	for text, want := range map[string]string{
		"there is no key":           "There is no key",
		"keys.yaml:3:1: no such id": "keys.yaml:3:1: no such id",
		"":                          "",
	} {
		if got := sentence(connect.NewError(connect.CodeNotFound, errors.New(text))); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
		if got := sentence(errors.New(text)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
