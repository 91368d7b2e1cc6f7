package redisstore

import "github.com/redis/go-redis/v9"

// Client is the store's client, for others who keep what they share there too. It
// obeys the contexts of its calls, and closes with the store.
func (s *Store) Client() redis.UniversalClient { return s.client }
