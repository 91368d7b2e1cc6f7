package storetest

import (
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ratelimit"
)

// shadows tells what limits do that are only tried out, and how finely windows
// can be cut.
func shadows() []scenario {
	return []scenario{
		{"a shadow limit tells and refuses nothing", shadowTells},
		{"a shadow limit is never named", shadowNotNamed},
		{"a shadow limit that is refused by another counts nothing", shadowRefused},
		{"a shadow limit in force has what it counted", shadowInForce},
		{"a shadow limit takes debt and refunds", shadowSettles},
		{"a finer window refuses for less long", preciseWindow},
	}
}

// trials are a window and a slot that are tried out.
func trials() (requests, slot ratelimit.Charge) {
	return of(spec(ratelimit.Spec{Name: "rpm", Unit: ratelimit.Requests, Max: 1, Window: time.Minute, Shadow: true}), 1),
		of(spec(ratelimit.Spec{Name: "slots", Unit: ratelimit.Concurrency, Max: 1, Shadow: true}), 1)
}

func (f *fixture) shadowed(d ratelimit.Decision, want ...int) {
	f.Helper()
	if diff := cmp.Diff(want, d.Shadowed); diff != "" {
		f.Errorf("shadow limits that would have refused (-want +got):\n%s", diff)
	}
}

func shadowTells(f *fixture) {
	requests, slot := trials()
	_, d := f.admit(slot, requests)
	f.shadowed(d)
	_, d = f.admit(slot, requests)
	f.shadowed(d, 0, 1)
	if !d.Admitted || d.States[0].Used != 2 || d.States[1].Used != 2 || d.States[1].Remaining != 0 {
		f.Errorf("admit beyond shadow limits = %+v, want it admitted and counted", d)
	}
	requests.Cost = 2
	_, d = f.admit(requests)
	f.shadowed(d, 0)
	f.used(4, requests)
}

func shadowNotNamed(f *fixture) {
	trial, _ := trials()
	firm := of(limit("qps", ratelimit.Requests, 1, time.Second), 1)
	f.mustAdmit(trial, firm)
	d := f.mustRefuse(trial, firm)
	f.shadowed(d, 0)
	if d.Refused != 1 || d.RetryAfter > 1100*time.Millisecond {
		f.Errorf("refused by charge %d for %s, want 1 for a second", d.Refused, d.RetryAfter)
	}
}

func shadowRefused(f *fixture) {
	requests, slot := trials()
	firm := of(limit("tpm", ratelimit.Tokens, 5, time.Minute), 6)
	f.mustRefuse(requests, slot, firm)
	f.used(0, requests, slot)
}

func shadowInForce(f *fixture) {
	requests, slot := trials()
	f.mustAdmit(requests, slot)
	f.mustAdmit(requests, slot)
	rpm, slots := of(limit("rpm", ratelimit.Requests, 1, time.Minute), 1), slots(1)
	f.used(2, rpm, slots)
	f.mustRefuse(rpm)
	f.mustRefuse(slots)
}

func shadowSettles(f *fixture) {
	requests, slot := trials()
	first, second := f.mustAdmit(requests, slot), f.mustAdmit(requests, slot)
	f.settle(first, 7, 0)
	f.cancel(second)
	f.used(7, requests)
	f.used(0, slot)
}

func preciseWindow(f *fixture) {
	c := of(spec(ratelimit.Spec{
		Name: "rpm", Unit: ratelimit.Requests, Max: 2, Window: time.Minute, Precision: ratelimit.HighPrecision,
	}), 1)
	f.mustAdmit(c)
	f.clock.Advance(30 * time.Second)
	f.mustAdmit(c)
	d := f.mustRefuse(c)
	if d.RetryAfter < 30*time.Second || d.RetryAfter > 31*time.Second {
		f.Errorf("refused for %s, want 30 s to 31 s", d.RetryAfter)
	}
	f.clock.Advance(d.RetryAfter)
	f.used(1, c)
	f.mustAdmit(c)
	f.mustRefuse(c)
	f.clock.Advance(time.Hour)
	f.used(0, c)
}
