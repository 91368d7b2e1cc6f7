package gateway

import (
	"context"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
)

// Limiter keeps what limits have counted. *failover.Store is one; Direct makes
// one of a store that cannot be away. See ratelimit.Store for the methods.
type Limiter interface {
	// Admit decides by the store, or without it by policies[i] for charges[i].
	Admit(ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, policies []failover.Policy,
		opts ratelimit.AdmitOptions) (ratelimit.Decision, failover.Mode, error)
	Settle(ctx context.Context, id ratelimit.ID, actual []int64) error
	Cancel(ctx context.Context, id ratelimit.ID) error
	Renew(ctx context.Context, ids []ratelimit.ID) (lost []ratelimit.ID, err error)
	// PutBack admits by force a live exchange that the store has lost.
	PutBack(ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge) error
	Peek(ctx context.Context, charges []ratelimit.Charge) ([]ratelimit.State, error)
	// Reset forgets what window limits have counted.
	Reset(ctx context.Context, charges []ratelimit.Charge) error
}

// Direct is a Limiter that asks its store and nothing else.
func Direct(store ratelimit.Store) Limiter { return direct{store} }

type direct struct{ ratelimit.Store }

func (d direct) Admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, _ []failover.Policy, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, failover.Mode, error) {
	decision, err := d.Store.Admit(ctx, id, charges, opts)
	return decision, failover.Shared, err
}

func (d direct) PutBack(ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge) error {
	_, err := d.Store.Admit(ctx, id, charges, ratelimit.AdmitOptions{Force: true})
	return err
}
