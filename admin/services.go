package admin

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/gateway"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/upstream/pool"
)

// pools is the PoolsService.
type pools struct{ a *Admin }

// Status tells of all upstreams.
func (s pools) Status(context.Context, *connect.Request[adminv1.PoolsStatusRequest]) (*connect.Response[adminv1.PoolsStatusResponse], error) {
	out := &adminv1.PoolsStatusResponse{}
	for _, p := range s.a.poolList() {
		m := &adminv1.Pool{Upstream: p.Upstream, Up: p.Up, Usable: int32(p.Usable), Status: string(p.Status), Stale: p.Stale} //nolint:gosec // a number of keys
		for _, k := range p.Keys {
			m.Keys = append(m.Keys, poolKey(&k))
		}
		out.Pools = append(out.Pools, m)
	}
	return connect.NewResponse(out), nil
}

func poolKey(k *pool.KeyStatus) *adminv1.PoolKey {
	m := &adminv1.PoolKey{
		Id: k.ID, Label: k.Label, Last4: k.Last4, State: k.State.String(), Why: string(k.Why), Until: timestamp(k.Until),
		InFlight: int32(k.InFlight), Requests: k.Requests, Tokens: k.Tokens, SuccessRate: k.SuccessRate, //nolint:gosec // requests of a key
		Weight: int32(k.Weight), Successes: k.Successes, Aborted: k.Aborted, //nolint:gosec // the configuration bounds it
	}
	for class, n := range k.Failures {
		if m.Failures == nil {
			m.Failures = map[string]int64{}
		}
		m.Failures[class.String()] = n
	}
	if f := k.LastFailure; f != nil {
		m.LastFailure = &adminv1.PoolFailure{Class: f.Class.String(), Status: int32(f.Status), At: timestamp(f.At)} //nolint:gosec // an HTTP status
	}
	return m
}

// Reset forgets what keys have failed with.
func (s pools) Reset(ctx context.Context, req *connect.Request[adminv1.ResetPoolsRequest]) (*connect.Response[adminv1.ResetPoolsResponse], error) {
	n, err := s.a.change(ctx, "reset", req.Msg.GetUpstream(), req.Msg.GetKey(), resetKeys)
	if err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	return connect.NewResponse(&adminv1.ResetPoolsResponse{Changed: n}), nil
}

// Disable takes a key out of use.
func (s pools) Disable(ctx context.Context, req *connect.Request[adminv1.DisablePoolKeyRequest]) (*connect.Response[adminv1.DisablePoolKeyResponse], error) {
	n, err := s.a.change(ctx, "disable", req.Msg.GetUpstream(), req.Msg.GetKey(), disableKey)
	if err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	return connect.NewResponse(&adminv1.DisablePoolKeyResponse{Changed: n}), nil
}

// Enable puts a key into use again.
func (s pools) Enable(ctx context.Context, req *connect.Request[adminv1.EnablePoolKeyRequest]) (*connect.Response[adminv1.EnablePoolKeyResponse], error) {
	n, err := s.a.change(ctx, "enable", req.Msg.GetUpstream(), req.Msg.GetKey(), enableKey)
	if err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	return connect.NewResponse(&adminv1.EnablePoolKeyResponse{Changed: n}), nil
}

// limits is the LimitsService.
type limits struct{ a *Admin }

// Usage tells where limits stand.
func (s limits) Usage(ctx context.Context, req *connect.Request[adminv1.LimitsUsageRequest]) (*connect.Response[adminv1.LimitsUsageResponse], error) {
	list, err := s.a.gateway.LimitUsage(ctx, req.Msg.GetKey())
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	out := &adminv1.LimitsUsageResponse{}
	for _, u := range list {
		out.Limits = append(out.Limits, &adminv1.LimitUsage{
			Limit: u.Limit, Scope: u.Scope, Unit: u.Unit, Window: u.Window, Used: u.Used, Max: u.Max, Remaining: u.Remaining,
			ResetMs: u.ResetMS, Shadow: u.Shadow, OnStoreFailure: u.OnStoreFailure, Key: u.Key,
		})
	}
	return connect.NewResponse(out), nil
}

// Reset forgets what a key's own limits have counted.
func (s limits) Reset(ctx context.Context, req *connect.Request[adminv1.ResetLimitsRequest]) (*connect.Response[adminv1.ResetLimitsResponse], error) {
	if req.Msg.GetKey() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("name a key by its id"))
	}
	n, err := s.a.forget(ctx, req.Msg.GetKey(), req.Msg.GetLimit())
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewResponse(&adminv1.ResetLimitsResponse{Reset_: int32(n)}), nil //nolint:gosec // a number of limits
}

// exchanges is the ExchangesService.
type exchanges struct{ a *Admin }

var phases = map[gateway.Phase]adminv1.ExchangePhase{
	gateway.Waiting: adminv1.ExchangePhase_EXCHANGE_PHASE_WAITING, gateway.Answering: adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING,
	gateway.Natively: adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING_NATIVELY, gateway.Settled: adminv1.ExchangePhase_EXCHANGE_PHASE_SETTLED,
}

// List tells of the requests that are being served.
func (s exchanges) List(_ context.Context, req *connect.Request[adminv1.ListExchangesRequest]) (*connect.Response[adminv1.ListExchangesResponse], error) {
	out := &adminv1.ListExchangesResponse{}
	for _, r := range s.a.gateway.Running() {
		if key := req.Msg.GetKey(); key != "" && key != r.Key {
			continue
		}
		out.Exchanges = append(out.Exchanges, &adminv1.Exchange{
			Id: r.ID, RequestId: r.RequestID, Key: r.Key, User: r.User, Team: r.Team, Endpoint: r.Endpoint, Model: r.Model,
			Upstream: r.Upstream, Stream: r.Stream, Phase: phases[r.Phase], Started: timestamp(r.Started), ReservedTokens: r.Reserved,
		})
	}
	return connect.NewResponse(out), nil
}

// Cancel ends one of them.
func (s exchanges) Cancel(ctx context.Context, req *connect.Request[adminv1.CancelExchangeRequest]) (*connect.Response[adminv1.CancelExchangeResponse], error) {
	ended, err := s.a.gateway.Cancel(ctx, req.Msg.GetId())
	if err != nil {
		code := connect.CodeFailedPrecondition
		if errors.Is(err, gateway.ErrNotRunning) {
			code = connect.CodeNotFound
		}
		return nil, connect.NewError(code, err)
	}
	Audit(ctx, s.a.log, "exchange cancelled").Info().Str("exchange", req.Msg.GetId()).Bool("ended", ended).Msg("an operator cancelled a request")
	return connect.NewResponse(&adminv1.CancelExchangeResponse{Ended: ended}), nil
}

// configs is the ConfigService.
type configs struct {
	a    *Admin
	opts Options
}

// Show tells the configuration in force.
func (s *configs) Show(context.Context, *connect.Request[adminv1.ShowConfigRequest]) (*connect.Response[adminv1.ShowConfigResponse], error) {
	cfg := s.opts.Config()
	return connect.NewResponse(&adminv1.ShowConfigResponse{Config: cfg.Masked(), File: cfg.File}), nil
}

// Reload reads what can be read again while weir runs.
func (s *configs) Reload(ctx context.Context, req *connect.Request[adminv1.ReloadConfigRequest]) (*connect.Response[adminv1.ReloadConfigResponse], error) {
	if err := s.a.reload(ctx, req.Msg.GetForce()); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	out := &adminv1.ReloadConfigResponse{Keys: int32(s.a.keys.Status().Keys)} //nolint:gosec // a number of keys
	if s.opts.Reload != nil {
		fixed, err := s.opts.Reload(ctx)
		if err != nil {
			out.ConfigError = err.Error()
		}
		out.NeedRestart = fixed
	}
	if err := s.a.upstreams.Reload(); err != nil {
		out.UpstreamKeysError = err.Error()
	}
	return connect.NewResponse(out), nil
}
