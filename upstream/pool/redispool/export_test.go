package redispool

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// NewShortLived makes a share whose hashes live so long.
func NewShortLived(client redis.UniversalClient, life time.Duration) *Share {
	return newShare(client, life)
}
