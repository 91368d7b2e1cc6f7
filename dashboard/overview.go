package dashboard

import (
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// overviewPage is the first page.
type overviewPage struct {
	Live     int // requests in flight
	Tiles    []tile
	Refusals []refusal // in the last quarter of an hour
	Store    Store
	Keys     int
	Pools    []poolRow
	Troubles []trouble
}

// tile is a figure.
type tile struct{ Name, Value, Unit, Note string }

// trouble is what an operator should look at.
type trouble struct{ Text, Path string }

// rateOver is what rates are a mean of, and firstTokenOver where times to the first
// token are taken from.
const (
	rateOver       = 30 * time.Second
	firstTokenOver = 5 * time.Minute
)

func (d *Dashboard) overview(r *http.Request) (*view, error) {
	live, err := d.opts.Services.Exchanges.List(r.Context(), connect.NewRequest(&adminv1.ListExchangesRequest{}))
	if err != nil {
		return nil, err
	}
	b := overviewPage{Live: len(live.Msg.GetExchanges()), Store: d.opts.Store(), Keys: d.opts.Keys().Keys}
	if b.Pools, err = d.poolList(r.Context()); err != nil {
		return nil, err
	}
	b.Tiles = append([]tile{{"In flight", count(b.Live), "", "requests now"}}, d.tiles()...)
	from, to := d.samples.over(sampleFor)
	b.Refusals = refusals(&from, &to)
	b.Troubles = d.troubles(b.Store, b.Pools)
	if lost := to.lost; lost > 0 {
		b.Troubles = append(b.Troubles, trouble{plural(lost, "line") + " of the usage ledger could not be written since weir was started.", ""})
	}
	return &view{Template: "overview", Title: "Overview", Section: "overview", Every: 3 * time.Second, Body: b}, nil
}

// tiles are the figures that the samples tell.
func (d *Dashboard) tiles() []tile {
	from, to := d.samples.over(rateOver)
	persec := func(name, note string, counter func(*sample) float64) tile {
		n, known := rate(&from, &to, counter)
		if !known {
			return tile{name, "–", "/s", note}
		}
		return tile{name, number(n), "/s", note}
	}
	long, last := d.samples.over(firstTokenOver)
	first := func(name string, share float64) tile {
		s, known := quantile(&long, &last, share)
		if !known {
			return tile{name, "–", "", "in 5 min"}
		}
		return tile{name, span(time.Duration(s * float64(time.Second))), "", "in 5 min"}
	}
	return []tile{
		persec("Requests", "in 30 s", func(s *sample) float64 { return s.answered + s.refused + s.failed + s.left }),
		persec("Tokens in", "in 30 s", func(s *sample) float64 { return s.input }),
		persec("Tokens out", "in 30 s", func(s *sample) float64 { return s.output }),
		first("First token, p50", .5),
		first("First token, p95", .95),
	}
}

// troubles are what is not as it should be.
func (d *Dashboard) troubles(store Store, pools []poolRow) (list []trouble) {
	if store.Away {
		list = append(list, trouble{"The limit store has been away for " + span(store.For) + ": limits do what their on_store_failure says.", root + "/limits"})
	}
	if d.opts.Keys().Err != nil {
		list = append(list, trouble{"The newest key files have a mistake: older keys are in force.", root + "/config"})
	}
	if d.opts.Loaded != nil {
		if _, err := d.opts.Loaded(); err != nil {
			list = append(list, trouble{"The newest weir.yaml was not taken: an older one is in force.", root + "/config"})
		}
	}
	for _, p := range pools {
		if p.GetStale() != "" {
			list = append(list, trouble{"The newest key file of the upstream " + p.GetUpstream() + " has a mistake: older keys are in force.", poolsPath})
		}
		switch p.State() {
		case "down":
			list = append(list, trouble{"Upstream " + p.GetUpstream() + " does not answer.", poolsPath})
		case "no usable key":
			list = append(list, trouble{"Upstream " + p.GetUpstream() + " has no key that can be used: all " + strconv.Itoa(len(p.GetKeys())) + " are out.", poolsPath})
		}
	}
	return list
}
