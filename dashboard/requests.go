package dashboard

import (
	"cmp"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/admin"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// requestsMost bounds how many requests in flight a page lists.
const requestsMost = 100

// requestsPage is the page of requests in flight.
type requestsPage struct {
	Requests []requestRow // the oldest first
	All      int
	Key      string // whose they are; "": everybody's
}

type requestRow struct {
	*adminv1.Exchange
	For time.Duration
}

// Name is what clients and logs call it.
func (r requestRow) Name() string { return cmp.Or(r.GetRequestId(), r.GetId()) }

// Status is a word for its phase.
func (r requestRow) Status() string { return admin.PhaseWord(r.Exchange) }

// KeyPath is the page of its key.
func (r requestRow) KeyPath() string { return keyPath(r.GetKey()) }

func (d *Dashboard) requests(r *http.Request) (*view, error) {
	b := requestsPage{Key: r.URL.Query().Get("key")}
	resp, err := d.opts.Services.Exchanges.List(r.Context(), connect.NewRequest(&adminv1.ListExchangesRequest{Key: b.Key}))
	if err != nil {
		return nil, err
	}
	all := resp.Msg.GetExchanges()
	b.All = len(all)
	for _, x := range all[:min(len(all), requestsMost)] {
		b.Requests = append(b.Requests, requestRow{x, time.Since(x.GetStarted().AsTime())})
	}
	return &view{Template: "requests", Title: "In flight", Section: "requests", Every: 2 * time.Second, Body: b}, nil
}

func (d *Dashboard) cancelRequest(r *http.Request) (to string, t told, err error) {
	to = root + "/requests"
	if key := r.PostForm.Get("key"); key != "" {
		to = withQuery(to, "key", key)
	}
	resp, err := d.opts.Services.Exchanges.Cancel(r.Context(), connect.NewRequest(&adminv1.CancelExchangeRequest{Id: r.PostForm.Get("id")}))
	if err != nil {
		return to, t, err
	}
	if !resp.Msg.GetEnded() {
		return to, told{Text: "Envoy was told to end the request, and has not done it yet.", Bad: true}, nil
	}
	return to, told{Text: "The request was cancelled."}, nil
}
