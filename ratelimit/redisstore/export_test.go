package redisstore

import (
	"time"
)

// patience is how long a call may take in tests that are not about that, even on
// a machine that is busy with others.
const patience = 20 * time.Second

// NewVirtual makes a store for which clock is the server's. Keys live for a
// minute longer, since the real clock goes on meanwhile.
func NewVirtual(opts Options, clock func() time.Time) (*Store, error) {
	opts.setDefaults()
	opts.virtual = clock
	opts.Timeout, opts.Silence = patience, patience
	opts.lives.slack = time.Minute
	return New(opts)
}

// NewShortLived makes a store whose leases, receipts and tombstones end early.
func NewShortLived(opts Options, lease, receipt, tombstone, slack time.Duration) (*Store, error) {
	opts.Timeout, opts.Silence = patience, patience
	opts.lives = lives{lease, receipt, tombstone, slack}
	return New(opts)
}
