package dashboard

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// limit is where one stands.
type limit struct {
	*adminv1.LimitUsage
	Bar   bar
	Reset time.Duration // until nothing counts any more
}

func newLimit(u *adminv1.LimitUsage) limit {
	return limit{u, bar{float64(u.GetUsed()), float64(u.GetMax()), u.GetUnit()}, time.Duration(u.GetResetMs()) * time.Millisecond}
}

// What says what is counted, and over which time.
func (l limit) What() string {
	if l.GetWindow() == "" {
		return "requests at once"
	}
	if d, err := time.ParseDuration(l.GetWindow()); err == nil {
		return l.GetUnit() + " in " + span(d)
	}
	return l.GetUnit() + " a " + l.GetWindow()
}

// Resettable tells whether there is something of one key's own to forget.
func (l limit) Resettable() bool { return l.GetKey() != "" && l.GetWindow() != "" }

// limitsOf are those of a key.
func (d *Dashboard) limitsOf(ctx context.Context, key string) ([]limit, error) {
	resp, err := d.opts.Services.Limits.Usage(ctx, connect.NewRequest(&adminv1.LimitsUsageRequest{Key: key}))
	if err != nil {
		return nil, err
	}
	list := make([]limit, len(resp.Msg.GetLimits()))
	for i, u := range resp.Msg.GetLimits() {
		list[i] = newLimit(u)
	}
	return list, nil
}

// limitsSeen keeps what the store has told of all limits for a while: with many keys it
// takes long, and every open page asks.
type limitsSeen struct {
	mu    sync.Mutex // held while the store is asked, so that it is once
	until time.Time
	list  []limit
}

// shortest is for how long all limits are kept at least, and pause how many times as
// long as it took to ask.
const (
	shortest = 2 * time.Second
	pause    = 10
)

// allLimits are those in use, the fullest first.
func (d *Dashboard) allLimits(ctx context.Context) ([]limit, error) {
	seen := &d.limits
	seen.mu.Lock()
	defer seen.mu.Unlock()
	begin := time.Now()
	if begin.Before(seen.until) {
		return seen.list, nil
	}
	list, err := d.limitsOf(ctx, "")
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b limit) int { return cmp.Compare(b.Bar.Share(), a.Bar.Share()) })
	seen.list, seen.until = list, time.Now().Add(max(shortest, pause*time.Since(begin)))
	return list, nil
}

// forget has the limits asked for again.
func (s *limitsSeen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
}

// limitsPage is the page of limits.
type limitsPage struct {
	Limits []limit
	Pager  pager
	Query  string
}

const limitsEachPage = 50

func (d *Dashboard) showLimits(r *http.Request) (*view, error) {
	list, err := d.allLimits(r.Context())
	if err != nil {
		return nil, err
	}
	b := limitsPage{Query: strings.TrimSpace(r.URL.Query().Get("q"))}
	list = slices.DeleteFunc(slices.Clone(list), func(l limit) bool {
		return b.Query != "" && !contains(b.Query, l.GetLimit(), l.GetScope(), l.GetUnit())
	})
	b.Pager = newPager(r, len(list), limitsEachPage)
	b.Limits = list[b.Pager.From:b.Pager.To]
	return &view{Template: "limits", Title: "Limits", Section: "limits", Every: 5 * time.Second, Body: b}, nil
}

// resetLimits forgets what one limit has counted for a key, or all that are its own.
func (d *Dashboard) resetLimits(r *http.Request) (to string, t told, err error) {
	key, name := r.PostForm.Get("key"), r.PostForm.Get("limit")
	to = root + "/limits"
	if r.PostForm.Get("from") == "key" {
		to = keyPath(key)
	} else if q := r.PostForm.Get("q"); q != "" {
		to = withQuery(to, "q", q)
	}
	resp, err := d.opts.Services.Limits.Reset(r.Context(), connect.NewRequest(&adminv1.ResetLimitsRequest{Key: key, Limit: name}))
	if err != nil {
		return to, t, err
	}
	d.limits.forget()
	return to, told{Text: plural(resp.Msg.GetReset_(), "limit") + " of key " + key + " counted from zero again."}, nil
}

// contains tells whether one of the texts has the query in it, whatever its case.
func contains(query string, texts ...string) bool {
	query = strings.ToLower(query)
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), query) })
}

// pager is one of the pages that a long list is cut into.
type pager struct {
	From, To, All       int // of the list
	Page, Pages         int
	Previous, Following string // addresses; "": there is none
}

func newPager(r *http.Request, all, each int) pager {
	pages := max(1, (all+each-1)/each)
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	page = min(max(1, page), pages)
	p := pager{From: (page - 1) * each, To: min(all, page*each), All: all, Page: page, Pages: pages}
	if page > 1 {
		p.Previous = onPage(r.URL, page-1)
	}
	if page < pages {
		p.Following = onPage(r.URL, page+1)
	}
	return p
}

// onPage is the address of another page of the same list.
func onPage(u *url.URL, page int) string {
	q := u.Query()
	q.Del("told")
	q.Set("page", strconv.Itoa(page))
	return u.Path + "?" + q.Encode()
}
