package storetest

import (
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// resets are about Reset.
func resets() []scenario {
	rpm := limit("rpm", ratelimit.Requests, 3, time.Minute)
	tpm := limit("tpm", ratelimit.Tokens, 100, time.Minute)
	slots := limit("slots", ratelimit.Concurrency, 2, 0)
	reset := func(f *fixture, charges ...ratelimit.Charge) {
		f.Helper()
		if err := f.store.Reset(f.Context(), charges); err != nil {
			f.Fatalf("Reset(%v) = error %v", charges, err)
		}
	}
	return []scenario{
		{"a reset window counts from zero, and no other", func(f *fixture) {
			other := ratelimit.Charge{Limit: rpm, Scope: "key:b", Cost: 1}
			f.mustAdmit(of(rpm, 1), of(tpm, 40), other)
			f.clock.Advance(20 * time.Second)
			f.mustAdmit(of(rpm, 1), of(tpm, 50))
			reset(f, of(tpm, 0))
			f.used(0, of(tpm, 0))
			f.used(2, of(rpm, 0))
			f.used(1, other)
			f.mustAdmit(of(tpm, 100))
			f.mustRefuse(of(tpm, 1))
		}},
		{"what was reserved before a reset is not given back after it", func(f *fixture) {
			before := f.mustAdmit(of(tpm, 80))
			reset(f, of(tpm, 0))
			during := f.mustAdmit(of(tpm, 90))
			f.settle(before, 0)
			if used := f.peek(of(tpm, 0)).Used; used < 0 || used > 90 {
				f.Errorf("%d used, want 0 to 90", used)
			}
			f.settle(during, 90)
			f.peek(of(tpm, 0))
		}},
		{"slots are not reset", func(f *fixture) {
			f.mustAdmit(of(slots, 1))
			reset(f, of(slots, 1))
			f.used(1, of(slots, 1))
		}},
		{"nothing to reset", func(f *fixture) { reset(f, of(rpm, 0)) }},
	}
}
