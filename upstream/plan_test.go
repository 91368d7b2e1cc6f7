package upstream

import (
	"errors"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/upstream/pool"
)

func at(host string) *url.URL { return &url.URL{Scheme: "http", Host: host, Path: "/v1"} }

func keys(names ...string) *config.Pool {
	p := &config.Pool{MaxKeys: 3, Tries: 3}
	for _, name := range names {
		p.Keys = append(p.Keys, config.PoolKey{Key: config.Secret("sk-" + name + "-0123456789"), Label: name})
	}
	return p
}

func open(t *testing.T, cfg *config.Config) *Directory {
	t.Helper()
	d, err := New(cfg, Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// order is where a plan goes.
func order(t *testing.T, d *Directory, model string) (names []string, err error) {
	t.Helper()
	r, ok := d.Table().Resolve(model)
	if !ok {
		t.Fatalf("no model %q", model)
	}
	plan, err := r.Plan()
	for _, target := range plan {
		names = append(names, target.Server.Name+"/"+target.Model)
	}
	return names, err
}

func TestPlan(t *testing.T) {
	d := open(t, &config.Config{
		Upstreams: []config.Upstream{{Name: "a", URL: at("a")}, {Name: "b", URL: at("b")}, {Name: "c", URL: at("c"), Pool: keys("x", "y")}},
		Models:    []config.Model{{Name: "m", Upstreams: []string{"a", "b", "c"}, ServedAs: map[string]string{"b": "other"}}},
	})
	want := func(what string, names ...string) {
		t.Helper()
		if got, err := order(t, d, "m"); err != nil || !slices.Equal(got, names) {
			t.Errorf("%s: plan %v, %v; want %v", what, got, err, names)
		}
	}
	want("all is well", "a/m", "b/other", "c/m")
	a, _ := d.Server("a")
	for range downAfter {
		a.Note(false)
	}
	want("the first is down", "b/other", "c/m", "a/m")
	a.Note(true)
	want("it is back", "a/m", "b/other", "c/m")
	c, _ := d.Server("c")
	c.Pool.Disable("x")
	c.Pool.Disable("y")
	want("no key is left", "a/m", "b/other")
}

func TestPlanWithoutKeys(t *testing.T) {
	d := open(t, &config.Config{
		Upstreams: []config.Upstream{{Name: "a", URL: at("a"), Pool: keys("x", "y")}, {Name: "b", URL: at("b"), Pool: keys("z")}},
		Models:    []config.Model{{Name: "m", Upstreams: []string{"a", "b"}}},
	})
	for i, s := range d.Servers() {
		for range s.Pool.Len() {
			lease, err := s.Pool.Pick(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			lease.Done(pool.Outcome{Class: pool.RateLimited, Status: 429, RetryAfter: time.Duration(20-10*i) * time.Second})
		}
	}
	_, err := order(t, d, "m")
	var none *pool.NoKeyError
	if !errors.As(err, &none) || none.Soonest > 10*time.Second || none.Soonest < 9*time.Second {
		t.Errorf("error %v, want the soonest return of both pools, in 10 s", err)
	}
}

func TestWeights(t *testing.T) {
	d := open(t, &config.Config{
		Upstreams: []config.Upstream{{Name: "a", URL: at("a")}, {Name: "b", URL: at("b")}, {Name: "c", URL: at("c")}},
		Models:    []config.Model{{Name: "m", Upstreams: []string{"a", "b", "c"}, Weights: map[string]uint32{"a": 3, "b": 1}}},
	})
	first := map[string]int{}
	const n = 8000
	for range n {
		names, err := order(t, d, "m")
		if err != nil || len(names) != 3 {
			t.Fatalf("plan %v, %v", names, err)
		}
		first[names[0]]++
	}
	// Six standard deviations of a binomial distribution are 232.
	if first["c/m"] > 0 || first["b/m"] < n/4-240 || first["b/m"] > n/4+240 {
		t.Errorf("beginnings %v, want three to one and none at c", first)
	}
}

func TestOffers(t *testing.T) {
	d := open(t, &config.Config{
		Upstreams: []config.Upstream{
			{Name: "local", URL: at("a"), Offer: config.Discover}, {Name: "hosted", URL: at("b"), Offer: config.Catalogue}, {Name: "other", URL: at("c"), Offer: config.Discover},
		},
		Models: []config.Model{{Name: "mine", Upstreams: []string{"local"}}, {Name: "llama3.3-70b-instruct", Upstreams: []string{"other"}}},
	})
	local, _ := d.Server("local")
	other, _ := d.Server("other")
	d.learn(local, []config.Model{{Name: "mine", Context: 4096}, {Name: "found", Context: 100}, {Name: "openai-gpt-oss-20b", Context: 9}})
	if !d.Table().Learning() {
		t.Error("all is known before every server has listed its models")
	}
	d.learn(other, []config.Model{{Name: "found", Context: 200}})
	if d.Table().Learning() {
		t.Error("something is unknown after every server has listed its models")
	}
	for model, want := range map[string][]string{
		"mine":                  {"local/mine"},
		"found":                 {"local/found", "other/found"},
		"openai-gpt-oss-20b":    {"local/openai-gpt-oss-20b", "hosted/openai-gpt-oss-20b"},
		"llama3.3-70b-instruct": {"other/llama3.3-70b-instruct"}, // as configured, whoever offers it
		"":                      {"hosted/openai-gpt-oss-120b"},
	} {
		if got, err := order(t, d, model); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: plan %v, %v; want %v", model, got, err, want)
		}
	}
	windows := map[string]int64{}
	for _, m := range d.Table().Models() {
		windows[m.Name] = m.Context
	}
	if windows["mine"] != 4096 || windows["found"] != 100 || windows["llama3.3-70b-instruct"] != 131_000 || windows["minimaxai/minimax-m2"] != 128_000 {
		t.Errorf("context windows %v", windows)
	}
	d.learn(local, []config.Model{{Name: "mine", Context: 4096}})
	if got, err := order(t, d, "found"); err != nil || !slices.Equal(got, []string{"other/found"}) {
		t.Errorf("after one server dropped it: %v, %v", got, err)
	}
}
