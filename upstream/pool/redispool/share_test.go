package redispool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/upstream/pool"
	"github.com/weir-gateway/weir/upstream/pool/redispool"
)

const both = pool.PartState | pool.PartHand

// fixture is a share on a server that holds nothing at first.
type fixture struct {
	t *testing.T
	*redispool.Share
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	redistest.Need(t)
	shared.Flush(t)
	return &fixture{t, redispool.New(shared.Client)}
}

// publish publishes, and answers the version.
func (f *fixture) publish(e pool.Entry) int64 {
	f.t.Helper()
	v, err := f.Publish(f.t.Context(), "up", e)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// poll answers entries without their versions, the time that is left in seconds.
func (f *fixture) poll(since int64) (map[string]pool.Entry, int64) {
	f.t.Helper()
	entries, v, err := f.Poll(f.t.Context(), "up", since)
	if err != nil {
		f.t.Fatal(err)
	}
	byID := map[string]pool.Entry{}
	for _, e := range entries {
		if e.Version > v {
			f.t.Errorf("the state of %s has version %d, want one up to %d", e.KeyID, e.Version, v)
		}
		e.Version, e.Remaining = 0, e.Remaining.Round(time.Second)
		byID[e.KeyID] = e
	}
	return byID, v
}

func (f *fixture) want(since int64, want map[string]pool.Entry) int64 {
	f.t.Helper()
	got, v := f.poll(since)
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("entries since %d (-want +got):\n%s", since, diff)
	}
	return v
}

type entries = map[string]pool.Entry

func TestPublishAndPoll(t *testing.T) {
	f := newFixture(t)
	if v := f.want(0, entries{}); v != 0 {
		t.Errorf("version %d of nothing, want 0", v)
	}
	cooling := pool.Entry{KeyID: "uk_a", State: pool.Cooling, Why: pool.WhyRateLimited, Remaining: 20 * time.Second, Level: 3}
	sent := cooling
	sent.Parts = pool.PartState
	first := f.publish(sent)
	v := f.want(0, entries{"uk_a": cooling})
	if v != first || v <= 0 {
		t.Errorf("version polled %d, published %d; want the same above 0", v, first)
	}
	f.want(v, entries{})
	quarantined := pool.Entry{KeyID: "uk_b", State: pool.Quarantined, Disabled: true}
	sent = quarantined
	sent.Parts = both
	if next := f.publish(sent); next != first+1 {
		t.Errorf("version %d, want %d", next, first+1)
	}
	f.want(v, entries{"uk_b": quarantined})
	f.want(0, entries{"uk_a": cooling, "uk_b": quarantined})
	f.want(v+1, entries{})

	// Other upstreams are others.
	if entries, _, err := f.Poll(t.Context(), "down", 0); err != nil || len(entries) != 0 {
		t.Errorf("another upstream: %v, %v; want nothing", entries, err)
	}
}

// TestParts publishes one part of an entry after the other.
func TestParts(t *testing.T) {
	f := newFixture(t)
	f.publish(pool.Entry{KeyID: "uk_a", Disabled: true, State: pool.Quarantined, Parts: pool.PartHand})
	f.want(0, entries{"uk_a": {KeyID: "uk_a", Disabled: true}})
	v := f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Why: pool.WhyUnpaid, Parts: pool.PartState})
	f.want(0, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined, Why: pool.WhyUnpaid, Disabled: true}})
	if next := f.publish(pool.Entry{KeyID: "uk_a", Parts: pool.PartHand}); next != v+1 {
		t.Errorf("version %d, want %d", next, v+1)
	}
	f.want(v, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined, Why: pool.WhyUnpaid}})
	// That version is not one of the state: who knows the state's may change it.
	if next := f.publish(pool.Entry{KeyID: "uk_a", State: pool.Healthy, Parts: pool.PartState, Version: v}); next != v+2 {
		t.Errorf("version %d, want %d", next, v+2)
	}
	f.want(v, entries{"uk_a": {KeyID: "uk_a"}})
}

// TestWorseNewsStays: what a publisher has not seen yet holds if it is worse.
func TestWorseNewsStays(t *testing.T) {
	cooling := func(left time.Duration) pool.Entry { return pool.Entry{State: pool.Cooling, Remaining: left} }
	healthy, quarantined := pool.Entry{State: pool.Healthy}, pool.Entry{State: pool.Quarantined}
	for name, c := range map[string]struct {
		known, sent pool.Entry
		seen        bool
		stays       bool
	}{
		"healed, having seen":            {quarantined, healthy, true, false},
		"healed, not having seen":        {quarantined, healthy, false, true},
		"cooling beside quarantine":      {quarantined, cooling(time.Minute), false, true},
		"quarantine beside cooling":      {cooling(time.Minute), quarantined, false, false},
		"healthy beside cooling":         {cooling(time.Minute), healthy, false, true},
		"shorter, not having seen":       {cooling(time.Minute), cooling(time.Second), false, true},
		"shorter, having seen":           {cooling(time.Minute), cooling(time.Second), true, false},
		"longer, not having seen":        {cooling(time.Second), cooling(time.Minute), false, false},
		"healthy beside what has cooled": {cooling(0), healthy, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.known.KeyID, c.known.Parts = "uk_a", pool.PartState
			c.sent.KeyID, c.sent.Parts = "uk_a", both
			c.sent.Disabled = true
			seen := f.publish(c.known)
			if c.seen {
				c.sent.Version = seen
			}
			v := f.publish(c.sent)
			want := c.sent
			if c.stays {
				want = c.known
			}
			if stays := v == 0; stays != c.stays {
				t.Errorf("version %d: stays %v, want %v", v, stays, c.stays)
			}
			want.Parts, want.Version, want.Disabled = 0, 0, true
			f.want(seen, entries{"uk_a": want})
		})
	}
}

// TestAnotherLifeBeginsLower: who knows a version of a hash that was lost notices,
// however many entries the new one has got since.
func TestAnotherLifeBeginsLower(t *testing.T) {
	f := newFixture(t)
	var last int64
	for range 5 {
		next := f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Parts: pool.PartState})
		if last != 0 && next >= last {
			t.Errorf("version %d after a flush, want it below %d", next, last)
		}
		shared.Flush(t)
		if got, v := f.poll(next); v != 0 || len(got) != 0 {
			t.Errorf("poll after a flush: %v, %d; want nothing and 0", got, v)
		}
		for range 50 {
			last = f.publish(pool.Entry{KeyID: "uk_b", State: pool.Quarantined, Parts: pool.PartState})
		}
		if last >= next {
			t.Errorf("version %d after a flush and 50 entries, want it below %d", last, next)
		}
		f.want(next, entries{"uk_b": {KeyID: "uk_b", State: pool.Quarantined}})
		shared.Flush(t)
	}
}

func TestScriptsAreForgotten(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		shared.Do(t, "script", "flush")
		v := f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Parts: pool.PartState})
		shared.Do(t, "script", "flush")
		if got := f.want(v-1, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined}}); got != v {
			t.Errorf("version %d, want %d", got, v)
		}
	}
}

// TestLife: a hash ends some time after the last poll, and not before.
func TestLife(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	const life, key = time.Minute, "{weir0}:p:up"
	f := &fixture{t, redispool.NewShortLived(shared.Client, life)}
	v := f.publish(pool.Entry{KeyID: "uk_a", Disabled: true, Parts: both})
	ttl := func() time.Duration { return shared.Client.PTTL(t.Context(), key).Val() }
	if got := ttl(); got <= life-10*time.Second || got > life {
		t.Errorf("TTL after Publish = %s, want %s", got, life)
	}
	for left, want := range map[time.Duration]time.Duration{
		40 * time.Second: 40 * time.Second, // long enough: a poll writes nothing
		20 * time.Second: life,
	} {
		shared.Do(t, "pexpire", key, left.Milliseconds())
		f.want(v, entries{})
		if got := ttl(); got > want || got < want-10*time.Second {
			t.Errorf("TTL after a poll with %s left = %s, want %s", left, got, want)
		}
	}
	for _, k := range shared.Client.Keys(t.Context(), "*").Val() {
		if shared.Client.TTL(t.Context(), k).Val() <= 0 {
			t.Errorf("key %s lives for ever", k)
		}
	}
}

func TestOtherForms(t *testing.T) {
	f := newFixture(t)
	const key = "{weir0}:p:up"
	v := f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Parts: pool.PartState})
	shared.Do(t, "hset", key, "uk_b", "who knows", "uk_c", "")
	f.want(0, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined}})
	if got := f.publish(pool.Entry{KeyID: "uk_b", State: pool.Quarantined, Parts: pool.PartState}); got != v+1 {
		t.Errorf("over an entry of another form: version %d, want %d", got, v+1)
	}
	shared.Do(t, "hset", key, "uk_c", "9999999999999999 1 ill 0 0 0 -")
	if _, _, err := f.Poll(t.Context(), "up", 0); err == nil || !strings.Contains(err.Error(), `got "ill"`) {
		t.Errorf("error of an unknown state: %v", err)
	}
	shared.Do(t, "del", key)
	shared.Do(t, "set", key, "a string")
	if _, _, err := f.Poll(t.Context(), "up", 0); err == nil || !strings.Contains(err.Error(), "read the states of upstream keys: ") {
		t.Errorf("error of Poll: %v", err)
	}
	_, err := f.Publish(t.Context(), "up", pool.Entry{KeyID: "uk_a", Parts: both})
	if err == nil || !strings.Contains(err.Error(), "share the state of upstream key uk_a: ") {
		t.Errorf("error of Publish: %v", err)
	}
}

// TestRights runs as a user that has no more than the documentation asks for.
func TestRights(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	shared.Do(t, "acl", "setuser", "weir", "on", ">secret", "~{weir0}:*", "+eval", "+evalsha", "+time",
		"+hget", "+hmget", "+hset", "+hgetall", "+pexpire", "+pttl", "+hello", "+auth", "+ping")
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: shared.Socket, Username: "weir", Password: "secret", Protocol: 2, DisableIdentity: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	f := &fixture{t, redispool.New(client)}
	f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Parts: both})
	f.want(0, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined}})
}

func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	var addrs []string
	for _, node := range cluster.Nodes {
		addrs = append(addrs, node.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	f := &fixture{t, redispool.New(client)}
	f.publish(pool.Entry{KeyID: "uk_a", State: pool.Quarantined, Parts: both})
	f.want(0, entries{"uk_a": {KeyID: "uk_a", State: pool.Quarantined}})
}
