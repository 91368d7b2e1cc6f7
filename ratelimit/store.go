package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// How long every store keeps what an exchange left behind.
const (
	// LeaseTTL is how long a slot is held without Renew. Renew at a third
	// of it.
	LeaseTTL = 30 * time.Second
	// ReceiptTTL is how long an exchange that is neither settled nor renewed
	// can still be settled. After it, its reservation stands as charged.
	ReceiptTTL = 10 * time.Minute
	// TombstoneTTL is how long an exchange that was settled or cancelled is
	// remembered, so that a replay of its Admit charges nothing. A store may
	// forget earlier when it has to, but no replay comes later than this.
	TombstoneTTL = time.Minute
)

var (
	// ErrTooLate is returned by Admit after AdmitOptions.NotAfter.
	ErrTooLate = errors.New("admit came after its deadline")
	// ErrFull is returned by Admit when a bound on the store's memory is
	// reached, and everything in it still counts.
	ErrFull = errors.New("limit store is full")
	// ErrUnavailable is what a store's transport returns when a call has
	// certainly not taken effect, and will not: the store was not reached, or
	// refused to work.
	ErrUnavailable = errors.New("limit store is unavailable")
	// ErrUnknown is what a store's transport returns when a call may have taken
	// effect, or may yet. After an Admit, Cancel of its ID makes sure that
	// nothing stays charged; or the Admit can be repeated with the same ID, as
	// all other calls can.
	ErrUnknown = errors.New("limit store did not answer: the outcome is unknown")
)

// ID names one exchange's reservation. It is ours, never the client's, and
// holds no secret.
type ID struct {
	Instance uint64 // the process, drawn at its start
	Seq      uint64 // counts the exchanges of the process
}

// String answers the ID in base 36, as in "3w5e11264sgsf-2s".
func (id ID) String() string {
	text := strconv.AppendUint(make([]byte, 0, 27), id.Instance, 36)
	text = append(text, '-')
	return string(strconv.AppendUint(text, id.Seq, 36))
}

// Charge is what an exchange reserves of one limit in one scope.
type Charge struct {
	Limit *Limit
	Scope string // such as "key:k_7f3", or "" for the whole site; never a secret
	Cost  int64  // in the limit's unit, ≥ 0; 1 for Concurrency
}

// State is where a limit stands in a scope.
type State struct {
	Used      int64         // in the limit's unit; debt may take it beyond the limit
	Remaining int64         // in 0..Max
	Reset     time.Duration // until Remaining is Max if nothing more comes; > 0 if and only if it is less
}

// Decision answers an Admit.
type Decision struct {
	Admitted bool
	// Refused is the index of the charge whose limit to name to the client:
	// of those that do not fit, the one with the longest wait, and one that
	// can never fit before all others. It is -1 when admitted. Shadow limits
	// are never named.
	Refused int
	// RetryAfter is when this very request, alone, would be admitted; 0 when
	// admitted, and when TooLarge.
	RetryAfter time.Duration
	// TooLarge tells that the cost is beyond the limit: it never fits.
	TooLarge bool
	// Shadowed are the indices of the charges, in order, that shadow limits
	// would have refused; also on refusal. A forced or repeated Admit is not
	// asked whether it fits.
	Shadowed []int
	// States has one entry per charge, in order, as they are after the
	// decision; also on refusal.
	States []State
}

// AdmitOptions qualify an Admit; the zero value is the common case.
type AdmitOptions struct {
	// States is scratch: its array is reused for Decision.States when it is
	// large enough.
	States []State
	// NotAfter is when the caller gives up, by the caller's clock. An Admit
	// that the store sees later fails with ErrTooLate and charges nothing,
	// since no one would settle it. Zero is no deadline.
	NotAfter time.Time
	// Force admits whatever the limits say: for exchanges that already run
	// and that the store does not know, as after its loss. Windows take the
	// cost as debt.
	Force bool
}

// Store keeps what limits have counted. All methods may be called
// concurrently. Each takes effect at once or not at all, and is idempotent by
// ID, so that a call whose outcome is unknown can be repeated.
type Store interface {
	// Admit decides all charges or none in one step. Refused, it writes
	// nothing anywhere. An ID that was admitted before is admitted again
	// without being charged again, with the states as they are by now; a
	// refusal leaves no trace, so its ID is decided anew. No two charges may
	// have the same limit and scope. Errors are ErrTooLate, ErrFull, the
	// context's, those of CheckCharges, and those of the store's transport.
	Admit(ctx context.Context, id ID, charges []Charge, opts AdmitOptions) (Decision, error)

	// Settle replaces the reservation by the truth: actual[i] ≥ 0 for
	// charges[i] of the Admit, ignored for Concurrency, whose lease is
	// released. Nil says that the truth is unknown: the reservation stands.
	// An ID that is unknown, or is settled or cancelled already, is a no-op.
	// It takes effect even if ctx is done: a client's end must not keep a slot.
	Settle(ctx context.Context, id ID, actual []int64) error

	// Cancel gives everything back, the request count too: the exchange never
	// reached an upstream. Otherwise it is as Settle, but that an ID that is
	// unknown is remembered as cancelled, for TombstoneTTL: an Admit that it
	// overtook charges nothing. So it settles what became of an Admit whose
	// outcome is unknown.
	Cancel(ctx context.Context, id ID) error

	// Renew extends the leases, and the receipts, of live exchanges; call it
	// for all of them every LeaseTTL/3. It answers which had lost a lease:
	// those are put back by force, so that the count stays truthful. An ID
	// that the store does not know is lost too, and only Admit with Force can
	// put it back. One that has ended meanwhile is not lost.
	Renew(ctx context.Context, ids []ID) (lost []ID, err error)

	// Peek answers the state of each charge's limit and changes nothing.
	// Costs are ignored.
	Peek(ctx context.Context, charges []Charge) ([]State, error)

	// Reset forgets what window limits have counted; concurrency limits stay as
	// they are. Costs are ignored. What was reserved before and is settled later
	// is not given back twice, but may take from what was charged since.
	Reset(ctx context.Context, charges []Charge) error
}

// CheckCharges answers what is wrong with the charges of one Admit: a missing
// limit, a cost out of range, or a limit and scope named twice.
func CheckCharges(charges []Charge) error {
	var seen uint64
	for i := range charges {
		c := &charges[i]
		switch {
		case c.Limit == nil:
			return fmt.Errorf("charge %d: no limit", i)
		case c.Cost < 0 || c.Cost > MaxAmount:
			return fmt.Errorf("charge %d: limit %q: cost of %d: want 0 to %d", i, c.Limit.Name, c.Cost, int64(MaxAmount))
		case c.Limit.Unit == Concurrency && c.Cost != 1:
			return fmt.Errorf("charge %d: limit %q: cost of %d slots: want 1", i, c.Limit.Name, c.Cost)
		}
		// Most limits are told apart by their hashes, without a search.
		if seen&c.Limit.hash != 0 {
			if j := earlier(charges[:i], c); j >= 0 {
				return fmt.Errorf("charge %d: limit %q of scope %q is charged already by charge %d", i, c.Limit.Name, c.Scope, j)
			}
		}
		seen |= c.Limit.hash
	}
	return nil
}

// earlier answers which of the charges has the limit and scope of c, or -1.
func earlier(charges []Charge, c *Charge) int {
	for j := range charges {
		if charges[j].Limit.id == c.Limit.id && charges[j].Scope == c.Scope {
			return j
		}
	}
	return -1
}

// CheckActual answers what is wrong with the amounts that settle an exchange of
// so many charges. Nil amounts are fine: the reservation stands.
func CheckActual(actual []int64, charges int) error {
	if actual == nil {
		return nil
	}
	if len(actual) != charges {
		return fmt.Errorf("%d amounts for %d charges", len(actual), charges)
	}
	for i, n := range actual {
		if n < 0 {
			return fmt.Errorf("amount %d is %d: want 0 or more", i, n)
		}
	}
	return nil
}
