package dashboard

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	sampleEvery = 5 * time.Second
	sampleFor   = 15 * time.Minute
)

// sample is what had been counted by some time.
type sample struct {
	at                        time.Time
	answered, refused, failed float64            // requests, by status: below 400, 4xx, 5xx
	left                      float64            // requests whose client left before
	input, output             float64            // tokens
	live                      float64            // requests in flight
	firstToken                map[bucket]float64 // how many, by how long the first token took
	firstTokens               float64            // how many in all
	limits                    map[string]float64 // requests that a limit refused, by its name
	lost                      float64            // lines of the ledger
}

// bucket is one of a histogram: from above low to high, in seconds.
type bucket struct{ low, high float64 }

// samples are those of the last while, the oldest first. The methods are safe for
// concurrent use.
type samples struct {
	metrics prometheus.Gatherer

	mu   sync.Mutex // guards list
	list []sample
}

// run takes samples until ctx ends.
func (s *samples) run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s.take(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// take takes one, and forgets those that are too old.
func (s *samples) take(now time.Time) {
	families, _ := s.metrics.Gather() // what could be gathered is there in any case
	next := read(families)
	next.at = now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, next)
	if over := len(s.list) - int(sampleFor/sampleEvery) - 1; over > 0 {
		s.list = slices.Delete(s.list, 0, over)
	}
}

// all are the samples by now.
func (s *samples) all() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// over are the newest sample and the one that long before it, or the oldest that there
// is. They are the same where there are not two.
func (s *samples) over(long time.Duration) (from, to sample) {
	list := s.all()
	if len(list) == 0 {
		return from, to
	}
	to = list[len(list)-1]
	i, _ := slices.BinarySearchFunc(list, to.at.Add(-long), func(s sample, t time.Time) int { return s.at.Compare(t) })
	return list[i], to
}

// read takes what it knows out of metrics.
func read(families []*dto.MetricFamily) (s sample) {
	s.limits, s.firstToken = map[string]float64{}, map[bucket]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s.add(f.GetName(), m)
		}
	}
	return s
}

func (s *sample) add(name string, m *dto.Metric) {
	n := m.GetCounter().GetValue()
	switch name {
	case "http_requests_total":
		switch status := label(m, "status"); {
		case strings.HasPrefix(status, "4"):
			s.refused += n
		case strings.HasPrefix(status, "5"):
			s.failed += n
		case status == "0":
			s.left += n
		default:
			s.answered += n
		}
	case "token_usage_total":
		if label(m, "kind") == "prompt" {
			s.input += n
		} else {
			s.output += n
		}
	case "weir_limit_refusals_total":
		s.limits[label(m, "limit")] += n
	case "weir_exchanges_live":
		s.live = m.GetGauge().GetValue()
	case "weir_time_to_first_token_seconds":
		s.addHistogram(m.GetHistogram())
	case "weir_ledger_lines_lost_total":
		s.lost += n
	}
}

// addHistogram adds one by its native buckets, which are a tenth apart, and where it has
// none by the others.
func (s *sample) addHistogram(h *dto.Histogram) {
	s.firstTokens += float64(h.GetSampleCount())
	if len(h.GetPositiveSpan()) == 0 && h.GetZeroCount() == 0 {
		s.addClassic(h)
		return
	}
	s.firstToken[bucket{0, h.GetZeroThreshold()}] += float64(h.GetZeroCount())
	// See https://prometheus.io/docs/specs/native_histograms/#data-model
	base := math.Exp2(math.Exp2(-float64(h.GetSchema())))
	index, delta, count := int32(0), 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count += h.GetPositiveDelta()[delta]
			s.firstToken[bucket{math.Pow(base, float64(index-1)), math.Pow(base, float64(index))}] += float64(count)
			index++
			delta++
		}
	}
}

func (s *sample) addClassic(h *dto.Histogram) {
	low, before := 0.0, uint64(0)
	for _, b := range h.GetBucket() {
		high, count := b.GetUpperBound(), b.GetCumulativeCount()
		if math.IsInf(high, 1) {
			break
		}
		s.firstToken[bucket{low, high}] += float64(count - before)
		low, before = high, count
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// rate is how much came a second between two samples of a counter.
func rate(from, to *sample, counter func(*sample) float64) (perSecond float64, known bool) {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return 0, false
	}
	return max(0, counter(to)-counter(from)) / seconds, true
}

// quantile is how long the first token took between two samples, in seconds, for that
// share of the answers. It lies in the right bucket, and is guessed within.
func quantile(from, to *sample, share float64) (seconds float64, known bool) {
	if to.firstTokens < from.firstTokens { // one with too many native buckets was begun again
		from = &sample{}
	}
	all := to.firstTokens - from.firstTokens
	if all <= 0 {
		return 0, false
	}
	buckets := slices.SortedFunc(maps.Keys(to.firstToken), func(a, b bucket) int { return cmp.Compare(a.high, b.high) })
	rank, before := share*all, 0.0
	for _, b := range buckets {
		count := max(0, to.firstToken[b]-from.firstToken[b])
		if count > 0 && before+count >= rank {
			return b.low + (b.high-b.low)*(rank-before)/count, true
		}
		if count > 0 {
			seconds = b.high
		}
		before += count
	}
	return seconds, true // or more
}

// refusals are how many requests each limit refused between two samples, the most
// first.
func refusals(from, to *sample) (list []refusal) {
	for _, name := range slices.Sorted(maps.Keys(to.limits)) {
		if n := to.limits[name] - from.limits[name]; n > 0 {
			list = append(list, refusal{name, n})
		}
	}
	slices.SortStableFunc(list, func(a, b refusal) int { return int(b.Count - a.Count) })
	return list
}

// refusal is how many requests a limit refused.
type refusal struct {
	Limit string
	Count float64
}

// series are what the charts draw: a value for each time, or nil where nothing is known.
type series struct {
	Time     []float64  `json:"time"` // seconds since 1970
	Answered []*float64 `json:"answered"`
	Refused  []*float64 `json:"refused"`
	Failed   []*float64 `json:"failed"`
	Input    []*float64 `json:"input"`
	Output   []*float64 `json:"output"`
	P50      []*float64 `json:"p50"` // seconds to the first token
	P95      []*float64 `json:"p95"`
	Live     []*float64 `json:"live"`
}

// series are those of the last while. Times to the first token are those of a minute,
// as there may be few in five seconds.
func (s *samples) series() series {
	list := s.all()
	out := series{Time: []float64{}}
	const minute = int(time.Minute / sampleEvery)
	for i := range list {
		to := &list[i]
		from, before := &list[max(0, i-1)], &list[max(0, i-minute)]
		out.Time = append(out.Time, float64(to.at.UnixMilli())/1000)
		for _, line := range []struct {
			values  *[]*float64
			counter func(*sample) float64
		}{
			{&out.Answered, func(s *sample) float64 { return s.answered }},
			{&out.Refused, func(s *sample) float64 { return s.refused }},
			{&out.Failed, func(s *sample) float64 { return s.failed }},
			{&out.Input, func(s *sample) float64 { return s.input }},
			{&out.Output, func(s *sample) float64 { return s.output }},
		} {
			*line.values = append(*line.values, value(rate(from, to, line.counter)))
		}
		out.P50 = append(out.P50, value(quantile(before, to, .5)))
		out.P95 = append(out.P95, value(quantile(before, to, .95)))
		out.Live = append(out.Live, value(to.live, true))
	}
	return out
}

// value is nil for what is not known.
func value(v float64, known bool) *float64 {
	if !known {
		return nil
	}
	return &v
}
