package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// poolsPage is the page of upstreams and their keys.
type poolsPage struct {
	Pools []poolRow
}

type poolRow struct {
	*adminv1.Pool
	Rows []poolKeyRow
}

// State is a word for how the upstream does.
func (p poolRow) State() string {
	switch p.GetStatus() {
	case "no_keys":
		return "no usable key"
	case "down", "resting":
		return p.GetStatus()
	}
	return "up"
}

type poolKeyRow struct {
	*adminv1.PoolKey
	down bool // the upstream does not answer
	now  time.Time
}

// Shown is a word for what can be had of the key.
func (k poolKeyRow) Shown() string {
	if k.GetState() == "healthy" && k.down {
		return "upstream down"
	}
	return k.GetState()
}

// Good is what part of its attempts went well, as far as they have ended.
func (k poolKeyRow) Good() string {
	ended := k.GetSuccesses()
	for _, n := range k.GetFailures() {
		ended += n
	}
	if ended == 0 {
		return "–"
	}
	return percent(k.GetSuccessRate())
}

// Name is the key as operators know it, with as much of the secret as may be seen.
func (k poolKeyRow) Name() string { return cmp.Or(k.GetLabel(), k.GetId()) }

// Masked is what may be seen of the secret.
func (k poolKeyRow) Masked() string {
	if k.GetLast4() == "" {
		return "…"
	}
	return "…" + k.GetLast4()
}

// Back is when it may be used again, as far as that is known.
func (k poolKeyRow) Back() string {
	if k.GetUntil() == nil {
		return ""
	}
	if left := k.GetUntil().AsTime().Sub(k.now); left > 0 {
		return "for " + span(left)
	}
	return "until its trial"
}

// Failed lists what the key has failed with, by class.
func (k poolKeyRow) Failed() string {
	var parts []string
	for _, class := range sorted(k.GetFailures()) {
		parts = append(parts, fmt.Sprintf("%s %s", count(k.GetFailures()[class]), words(class)))
	}
	return strings.Join(parts, ", ")
}

// Last tells of the last failure.
func (k poolKeyRow) Last() string {
	f := k.GetLastFailure()
	if f == nil {
		return ""
	}
	text := words(f.GetClass())
	if f.GetStatus() != 0 {
		text += fmt.Sprintf(" (%d)", f.GetStatus())
	}
	return text + ", " + span(k.now.Sub(f.GetAt().AsTime())) + " ago"
}

func (d *Dashboard) poolList(ctx context.Context) ([]poolRow, error) {
	resp, err := d.opts.Services.Pools.Status(ctx, connect.NewRequest(&adminv1.PoolsStatusRequest{}))
	if err != nil {
		return nil, err
	}
	var list []poolRow
	now := time.Now()
	for _, p := range resp.Msg.GetPools() {
		row := poolRow{Pool: p}
		down := row.State() == "down"
		for _, k := range p.GetKeys() {
			row.Rows = append(row.Rows, poolKeyRow{k, down, now})
		}
		list = append(list, row)
	}
	return list, nil
}

func (d *Dashboard) pools(r *http.Request) (*view, error) {
	list, err := d.poolList(r.Context())
	if err != nil {
		return nil, err
	}
	return &view{Template: "pools", Title: "Pools", Section: "pools", Every: 3 * time.Second, Body: poolsPage{list}}, nil
}

const poolsPath = root + "/pools"

func (d *Dashboard) resetPool(r *http.Request) (to string, t told, err error) {
	name, key := r.PostForm.Get("upstream"), r.PostForm.Get("key")
	resp, err := d.opts.Services.Pools.Reset(r.Context(), connect.NewRequest(&adminv1.ResetPoolsRequest{Upstream: name, Key: key}))
	if err != nil {
		return poolsPath, t, err
	}
	if n := resp.Msg.GetChanged(); n > 0 {
		return poolsPath, told{Text: plural(n, "key") + " of " + name + " reset: back in use."}, nil
	}
	return poolsPath, told{Text: "Nothing was to be reset: all keys asked for are in use, or were disabled."}, nil
}

func (d *Dashboard) enablePoolKey(r *http.Request) (to string, t told, err error) {
	name, key := r.PostForm.Get("upstream"), r.PostForm.Get("key")
	_, err = d.opts.Services.Pools.Enable(r.Context(), connect.NewRequest(&adminv1.EnablePoolKeyRequest{Upstream: name, Key: key}))
	return poolsPath, told{Text: "A key of " + name + " is in use again."}, err
}

func (d *Dashboard) disablePoolKey(r *http.Request) (to string, t told, err error) {
	name, key := r.PostForm.Get("upstream"), r.PostForm.Get("key")
	_, err = d.opts.Services.Pools.Disable(r.Context(), connect.NewRequest(&adminv1.DisablePoolKeyRequest{Upstream: name, Key: key}))
	return poolsPath, told{Text: "A key of " + name + " is out of use, until it is enabled."}, err
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
