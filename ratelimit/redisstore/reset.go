package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
)

// coldFields is how many fields of older buckets a window has at most; see
// lua/window.lua.
const coldFields = 10

// Reset forgets what windows have counted; see ratelimit.Store.
func (s *Store) Reset(ctx context.Context, charges []ratelimit.Charge) error {
	for i := range charges {
		if err := checkText(&charges[i]); err != nil {
			return fmt.Errorf("reset: charge %d: %w", i, err)
		}
	}
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range charges {
			c := &charges[i]
			if c.Limit.Unit == ratelimit.Concurrency {
				continue
			}
			id := c.Limit.ID().String()
			fields := []string{id}
			for part := range coldFields {
				fields = append(fields, id+"~"+strconv.Itoa(part+1))
			}
			pipe.HDel(ctx, windowPrefix+c.Scope, fields...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reset: %w", classify(err))
	}
	return nil
}
