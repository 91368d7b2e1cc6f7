package redispool

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/upstream/pool"
)

const (
	prefix = "{weir0}:p:" // the one hash tag of all that weir keeps

	// life is how long a hash lives without being polled.
	life = 24 * time.Hour
	// born is what the versions of a hash begin below, by the µs since the epoch.
	born = 1 << 52
)

var (
	//go:embed lua/publish.lua
	publishLua string
	//go:embed lua/poll.lua
	pollLua string
)

// Share is a [pool.Share] in Redis. A call is one round trip, two where the server
// has forgotten the script; the client should bound them by their contexts.
type Share struct {
	client        redis.UniversalClient
	publish, poll *redis.Script
}

// New makes a share of a client, which stays the caller's.
func New(client redis.UniversalClient) *Share { return newShare(client, life) }

func newShare(client redis.UniversalClient, life time.Duration) *Share {
	constants := fmt.Sprintf("local LIFE, BORN = %d, %d\n", life.Milliseconds(), int64(born))
	return &Share{
		client:  client,
		publish: redis.NewScript(constants + publishLua),
		poll:    redis.NewScript(constants + pollLua),
	}
}

// Publish makes an entry known.
func (s *Share) Publish(ctx context.Context, upstream string, e pool.Entry) (version int64, err error) {
	version, err = s.publish.Run(ctx, s.client, []string{prefix + upstream},
		e.KeyID, e.State.String(), word(e.Why), (e.Remaining + time.Millisecond - 1).Milliseconds(), max(e.Level, 0),
		flag(e.Disabled), e.Version, flag(e.Parts&pool.PartState != 0), flag(e.Parts&pool.PartHand != 0)).Int64()
	if err != nil {
		return 0, fmt.Errorf("share the state of upstream key %s: %w", e.KeyID, err)
	}
	return version, nil
}

// Poll answers the entries that are newer than a version.
func (s *Share) Poll(ctx context.Context, upstream string, since int64) ([]pool.Entry, int64, error) {
	lines, err := s.poll.Run(ctx, s.client, []string{prefix + upstream}, since).StringSlice()
	if err == nil {
		var entries []pool.Entry
		var version int64
		if entries, version, err = read(lines); err == nil {
			return entries, version, nil
		}
	}
	return nil, 0, fmt.Errorf("read the states of upstream keys: %w", err)
}

// read takes a reply of poll apart.
func read(lines []string) (entries []pool.Entry, version int64, err error) {
	if len(lines) == 0 {
		return nil, 0, errors.New("empty reply, want a version")
	}
	if version, err = strconv.ParseInt(lines[0], 10, 64); err != nil {
		return nil, 0, fmt.Errorf("version: %w", err)
	}
	for _, line := range lines[1:] {
		e, err := parse(line)
		if err != nil {
			return nil, 0, fmt.Errorf("entry %.120q: %w", line, err)
		}
		entries = append(entries, e)
	}
	return entries, version, nil
}

// parse reads an entry as poll.lua answers it.
func parse(line string) (e pool.Entry, err error) {
	var state, why string
	var left, disabled int64
	if _, err = fmt.Sscan(line, &e.KeyID, &e.Version, &state, &left, &e.Level, &disabled, &why); err != nil {
		return e, err
	}
	e.Remaining = time.Duration(left) * time.Millisecond
	e.Disabled = disabled == 1
	if why != none {
		e.Why = pool.Why(why)
	}
	return e, e.State.UnmarshalText([]byte(state))
}

// none stands for no reason: an entry's words are parted by spaces.
const none = "-"

func word(w pool.Why) string {
	if w == "" {
		return none
	}
	return string(w)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
