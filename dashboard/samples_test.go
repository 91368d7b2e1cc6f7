package dashboard

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-gateway/weir/telemetry"
)

// metered are samples of metrics as weir counts them.
func metered() (*samples, *telemetry.Metrics) {
	m := telemetry.NewMetrics()
	live := 0.0
	m.Gauge("weir_exchanges_live", "Exchanges that have not ended.", func() float64 { live++; return live })
	m.Counter("weir_ledger_lines_lost_total", "Lines lost.", func() float64 { return 3 })
	return &samples{metrics: m.Gatherer()}, m
}

func TestSamplesOfWhatWeirCounts(t *testing.T) {
	s, m := metered()
	start := time.Unix(1000, 0)
	s.take(start)
	for range 20 {
		m.Answered("chat_completions", 200, "", time.Second)
		m.FirstToken("m", 200*time.Millisecond)
	}
	m.Answered("chat_completions", 429, "tokens", time.Second)
	m.Answered("chat_completions", 503, "server_error", time.Second)
	m.Answered("chat_completions", 0, "", time.Second) // the client left
	m.Refused("rpm")
	m.Refused("tpm")
	m.Refused("tpm")
	m.Settled("m", "ok", "exact", 70, 30)
	m.Settled("n", "ok", "exact", 10, 20)
	s.take(start.Add(5 * time.Second))
	from, to := s.over(time.Minute)
	if from.at != start || to.at != start.Add(5*time.Second) {
		t.Fatalf("from %v to %v", from.at, to.at)
	}
	for what, c := range map[string]struct {
		want    float64
		counter func(*sample) float64
	}{
		"answered": {4, func(s *sample) float64 { return s.answered }},
		"refused":  {.2, func(s *sample) float64 { return s.refused }},
		"failed":   {.2, func(s *sample) float64 { return s.failed }},
		"left":     {.2, func(s *sample) float64 { return s.left }},
		"input":    {16, func(s *sample) float64 { return s.input }},
		"output":   {10, func(s *sample) float64 { return s.output }},
	} {
		if got, known := rate(&from, &to, c.counter); !known || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v/s, want %v/s", what, got, c.want)
		}
	}
	if to.live != 2 || to.lost != 3 {
		t.Errorf("live %v, lost %v", to.live, to.lost)
	}
	if diff := cmp.Diff([]refusal{{"tpm", 2}, {"rpm", 1}}, refusals(&from, &to)); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if got, known := quantile(&from, &to, .5); !known || got < .18 || got > .22 {
		t.Errorf("p50 of answers that took 200 ms: %v", got)
	}
	series := s.series()
	if series.Answered[0] != nil || *series.Answered[1] != 4 || *series.Live[0] != 1 || series.Time[1] != 1005 {
		text, _ := json.Marshal(series)
		t.Errorf("series: %s", text)
	}
}

func TestSamplesWithoutAny(t *testing.T) {
	s, _ := metered()
	from, to := s.over(time.Minute)
	if _, known := rate(&from, &to, func(s *sample) float64 { return s.input }); known {
		t.Error("a rate is known without a sample")
	}
	if text, err := json.Marshal(s.series()); err != nil || string(text) != `{"time":[],"answered":null,"refused":null,"failed":null,"input":null,"output":null,"p50":null,"p95":null,"live":null}` {
		t.Errorf("series: %s, %v", text, err)
	}
	s.take(time.Now())
	from, to = s.over(time.Minute)
	if _, known := rate(&from, &to, func(s *sample) float64 { return s.input }); known {
		t.Error("a rate is known from one sample")
	}
	if _, known := quantile(&from, &to, .5); known {
		t.Error("a quantile is known from nothing")
	}
}

func TestSamplesAreForgotten(t *testing.T) {
	s := &samples{metrics: prometheus.NewRegistry()}
	start := time.Unix(1000, 0)
	const n = 1000
	for i := range n {
		s.take(start.Add(time.Duration(i) * sampleEvery))
	}
	list := s.all()
	if want := int(sampleFor/sampleEvery) + 1; len(list) != want {
		t.Errorf("%d samples, want %d", len(list), want)
	}
	from, to := s.over(30 * time.Second)
	if to.at.Sub(from.at) != 30*time.Second || to.at != start.Add((n-1)*sampleEvery) {
		t.Errorf("from %v to %v", from.at, to.at)
	}
}

func TestQuantile(t *testing.T) {
	bounds := []float64{.1, 1, 10, math.Inf(1)}
	at := func(counts ...uint64) *sample {
		h := &dto.Histogram{SampleCount: &counts[len(counts)-1]}
		for i := range bounds {
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &bounds[i], CumulativeCount: &counts[i]})
		}
		s := &sample{firstToken: map[bucket]float64{}}
		s.addHistogram(h)
		return s
	}
	for name, c := range map[string]struct {
		from, to *sample
		share    float64
		want     float64
	}{
		"in the first":             {&sample{}, at(10, 10, 10, 10), .5, .05},
		"in the middle":            {&sample{}, at(0, 10, 10, 10), .5, .55},
		"at a bound":               {&sample{}, at(5, 10, 10, 10), .5, .1},
		"beyond the last":          {&sample{}, at(0, 0, 5, 10), .95, 10},
		"of what came since":       {at(100, 100, 100, 100), at(100, 100, 110, 110), .5, 5.5},
		"begun again":              {at(5, 5, 5, 5), at(0, 4, 4, 4), .5, .55},
		"of few, with empty parts": {&sample{}, at(0, 0, 1, 1), .95, 9.55},
	} {
		if got, known := quantile(c.from, c.to, c.share); !known || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, %v, want %v", name, got, known, c.want)
		}
	}
}

// TestQuantileOfManyTimes compares to the truth: native buckets are a tenth apart.
func TestQuantileOfManyTimes(t *testing.T) {
	s, m := metered()
	start := time.Unix(1000, 0)
	m.FirstToken("m", 100*time.Second) // before, which does not count
	s.take(start)
	const n = 10_000
	for i := range n {
		model := []string{"m", "n"}[i%2]
		m.FirstToken(model, time.Duration(i+1)*time.Millisecond) // up to 10 s
	}
	s.take(start.Add(5 * time.Second))
	from, to := s.over(time.Minute)
	for _, share := range []float64{.05, .5, .95, .99} {
		want := share * n / 1000
		if got, known := quantile(&from, &to, share); !known || math.Abs(got/want-1) > .05 {
			t.Errorf("%v: %v, want about %v", share, got, want)
		}
	}
}
