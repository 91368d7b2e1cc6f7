package gateway

import (
	"cmp"
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
)

// unreached ends an exchange that never left for an upstream: everything is
// given back, the request too.
func (x *Exchange) unreached() {
	x.finish(func(ctx context.Context) error { return x.g.limits.Cancel(ctx, x.id) })
	x.report(ledger.UpstreamError, ledger.Missing, ledger.Tokens{})
}

// failed ends an exchange that the upstream answered with an error: it has
// taken the request and no tokens.
func (x *Exchange) failed() {
	x.settle(ledger.UpstreamError, ledger.Missing, amounts{}, openai.Usage{})
}

// settle ends an exchange that took those amounts.
func (x *Exchange) settle(outcome ledger.Outcome, source ledger.Source, actual amounts, u openai.Usage) {
	x.finish(func(ctx context.Context) error {
		list := make([]int64, len(x.charges))
		for i := range x.charges {
			list[i] = actual.of(x.charges[i].Limit.Unit)
		}
		return x.g.limits.Settle(ctx, x.id, list)
	})
	x.report(outcome, source, ledger.Tokens{
		Input: actual.input, Output: actual.output, Cached: u.Cached, Reasoning: u.Reasoning,
	})
}

// finish ends the exchange at the store.
func (x *Exchange) finish(settle func(context.Context) error) {
	x.settled.Store(true)
	x.tell(settle)
}

// tell tells the store how something ended, on a context that no client can cancel.
func (x *Exchange) tell(end func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if err := end(ctx); err != nil {
		x.g.log.Error().Err(err).Str("request_id", x.call.RequestID).Msg("settling with the limit store failed")
	}
}

// report tells ledger, metrics and log of an exchange that was admitted.
func (x *Exchange) report(outcome ledger.Outcome, source ledger.Source, t ledger.Tokens) {
	if x.attempts != nil {
		x.attempts.close(amounts{input: t.Input, output: t.Output})
	}
	x.g.metrics.Settled(x.model.Name, string(outcome), string(source), t.Input, t.Output)
	x.took.Store(&t)
	r := x.record(outcome, source)
	r.Tokens = t
	a := x.answer(&r)
	x.g.metrics.Served(&a)
	x.write(&r, &a, nil)
}

// Took is what the exchange took, nil until that is settled.
func (x *Exchange) Took() *ledger.Tokens { return x.took.Load() }

// refuse tells of a call that was not admitted.
func (x *Exchange) refuse(e *openai.Error) {
	x.status, x.errorType = e.Status, e.Type
	r := x.record(ledger.Refused, ledger.Missing)
	if e.Detail != nil {
		r.Limit = e.Detail.Limit
	}
	if r.Limit != "" {
		x.g.metrics.Refused(r.Limit)
	}
	x.write(&r, &telemetry.Answer{
		Operation: x.call.Endpoint.Operation(), Model: x.model.Name, Stream: x.stream, Error: e.Type, Duration: time.Since(x.call.Start),
	}, e)
}

// answer is what the GenAI conventions ask about an exchange that has ended.
func (x *Exchange) answer(r *ledger.Record) telemetry.Answer {
	a := telemetry.Answer{
		Operation: x.call.Endpoint.Operation(), Upstream: x.target.Server.Name, Model: x.model.Name, Served: x.target.Model,
		Stream: x.stream, Exact: r.Source == ledger.Exact, Input: r.Tokens.Input, Output: r.Tokens.Output,
		Duration: time.Since(x.call.Start), First: x.ttft,
	}
	if x.attempts != nil {
		if t, ok := x.attempts.answered(); ok {
			a.Upstream, a.Served = t.Server.Name, t.Model
		}
	}
	if r.Outcome != ledger.OK {
		a.Error = cmp.Or(x.errorType, string(r.Outcome))
	}
	return a
}

func (x *Exchange) record(outcome ledger.Outcome, source ledger.Source) ledger.Record {
	r := ledger.Record{
		Time: x.call.Start.UTC(), RequestID: x.call.RequestID, KeyID: x.call.KeyID,
		Endpoint: x.call.Endpoint.String(), Model: x.asking, ServedModel: x.model.Name,
		Stream: x.stream, Status: x.status, Outcome: outcome, Source: source,
		AudioSeconds: x.seconds, EstimateInput: x.input, Reserved: x.reserved.input + x.reserved.output,
		TTFT: toMS(x.ttft), Duration: toMS(time.Since(x.call.Start)), Overhead: toMS(x.overhead),
	}
	if x.target.Server != nil {
		r.Upstream, r.Attempts = x.target.Server.Name, 1
	}
	if x.attempts != nil {
		r.Upstream, r.UpstreamKeyID, r.Attempts = x.attempts.server()
	}
	if x.key != nil {
		r.User, r.Team, r.Plan = x.key.User, x.key.Team, x.key.Plan
	}
	return r
}

// write sends a record where records go. The ledger line comes after all else,
// so that whoever has read it finds the rest done.
func (x *Exchange) write(r *ledger.Record, a *telemetry.Answer, e *openai.Error) {
	x.g.metrics.Answered(r.Endpoint, r.Status, x.errorType, time.Since(x.call.Start))
	if x.span != nil {
		x.trace(r, a)
	}
	x.log(r, e)
	x.g.ledger.Write(*r)
}

func (x *Exchange) log(r *ledger.Record, e *openai.Error) {
	level := zerolog.InfoLevel
	if r.Status >= 500 {
		level = zerolog.WarnLevel
	}
	line := x.g.log.WithLevel(level)
	line.Str("request_id", r.RequestID).Str("key", r.KeyID).Str("endpoint", r.Endpoint).Str("model", r.ServedModel).
		Str("upstream", r.Upstream).Bool("stream", r.Stream).Int("status", r.Status).Str("outcome", string(r.Outcome)).
		Int64("input", r.Tokens.Input).Int64("output", r.Tokens.Output).Str("tokens", string(r.Source)).
		Int("attempts", r.Attempts).
		Float64("ttft_ms", r.TTFT).Float64("duration_ms", r.Duration)
	if r.UpstreamKeyID != "" {
		line.Str("upstream_key", r.UpstreamKeyID)
	}
	if x.span != nil {
		line.Str("trace_id", x.span.TraceID())
	}
	if e != nil {
		line.Str("type", e.Type).Str("code", e.Code).Str("limit", r.Limit).AnErr("cause", e.Cause)
	}
	line.Msg("exchange")
}
