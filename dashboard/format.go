package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// functions are those of the templates.
var functions = template.FuncMap{
	"number": number, "count": count, "percent": percent, "span": span, "moment": moment, "stamp": stamp, "words": words, "plural": plural,
}

// number is one in few characters, for what changes all the time.
func number(n float64) string {
	const k, digits = 1000, 3
	if n > 0 && n < .01 {
		return "< 0.01"
	}
	for _, unit := range []string{"", " k", " M", " G"} {
		if n < k-.5 {
			decimals := max(0, digits-len(strconv.Itoa(int(n))))
			text := strconv.FormatFloat(n, 'f', min(2, decimals), 64)
			if strings.Contains(text, ".") {
				text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
			}
			return text + unit
		}
		n /= k
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + " T"
}

// count is a whole number, with a narrow space between thousands.
func count(n any) string {
	digits := strconv.FormatInt(whole(n), 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "−", digits[1:]
	}
	var out strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteString("\u202f")
		}
		out.WriteRune(c)
	}
	return sign + out.String()
}

// plural is a number and what there are so many of: "1 key", "2 keys".
func plural(n any, one string) string {
	if whole(n) == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

// whole is a number of any type, as templates have them.
func whole(n any) int64 {
	v := reflect.ValueOf(n)
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanFloat():
		return int64(v.Float())
	}
	return 0
}

// percent is a share.
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + " %" }

// span is a time for people, in its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0 s"
	case d < 9950*time.Microsecond:
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	for _, unit := range []struct {
		size, part time.Duration
		name, rest string
	}{{day, time.Hour, "d", "h"}, {time.Hour, time.Minute, "h", "min"}, {time.Minute, time.Second, "min", "s"}} {
		if d < unit.size {
			continue
		}
		text := fmt.Sprintf("%d %s", d/unit.size, unit.name)
		if rest := d % unit.size / unit.part; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, unit.rest)
		}
		return text
	}
	return "0 s"
}

// moment is a time, by the clock that has no summer.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// stamp is moment for messages; "" for none.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return moment(t.AsTime())
}

// words has no underscores.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// bar is how full something is.
type bar struct {
	Used, Max float64
	Unit      string // what is counted
}

// Width is the full part, in percent of the whole.
func (b bar) Width() string { return strconv.FormatFloat(100*b.Share(), 'f', 1, 64) }

// Share is the full part of 1.
func (b bar) Share() float64 {
	if b.Max <= 0 || math.IsNaN(b.Used) {
		return 0
	}
	return min(1, max(0, b.Used/b.Max))
}

// Level says how near the end is.
func (b bar) Level() string {
	const high = .8
	switch share := b.Share(); {
	case share >= 1:
		return "full"
	case share >= high:
		return "high"
	}
	return "fine"
}
