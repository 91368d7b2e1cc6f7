package redisstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
)

// classify tells what an error of the transport means for the call. A reply
// that is an error was given before anything was written: scripts read first,
// and Redis refuses the first command that writes, or none.
func classify(err error) error {
	var dial dialError
	switch {
	case err == nil:
		return nil
	case isReply(err):
		if strings.Contains(err.Error(), "OOM command not allowed") {
			return fmt.Errorf("%w: %w: Redis has reached its maxmemory", ratelimit.ErrUnavailable, ratelimit.ErrFull)
		}
		return fmt.Errorf("%w: Redis answered %q", ratelimit.ErrUnavailable, err.Error())
	case errors.As(err, &dial), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, redis.ErrClosed):
		return fmt.Errorf("%w: %w", ratelimit.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ratelimit.ErrUnknown, err)
}

func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func isNoScript(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }
