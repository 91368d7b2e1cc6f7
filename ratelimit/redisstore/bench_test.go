package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

// tenLimits are the charges of an exchange as a gateway makes them: five scopes,
// windows of all lengths, three concurrency limits.
func tenLimits(tb testing.TB, key string) []ratelimit.Charge {
	tb.Helper()
	specs := []struct {
		name, scope string
		unit        ratelimit.Unit
		window      time.Duration
		cost        int64
	}{
		{"key-tpm", "key:" + key, ratelimit.Tokens, time.Minute, 1200},
		{"key-qps", "key:" + key, ratelimit.Requests, time.Second, 1},
		{"key-slots", "key:" + key, ratelimit.Concurrency, 0, 1},
		{"key-out", "key:" + key, ratelimit.OutputTokens, time.Hour, 900},
		{"model-rpm", "key:" + key + "/model:m", ratelimit.Requests, time.Minute, 1},
		{"model-slots", "key:" + key + "/model:m", ratelimit.Concurrency, 0, 1},
		{"user-rpm", "user:u_" + key, ratelimit.Requests, time.Minute, 1},
		{"user-in", "user:u_" + key, ratelimit.InputTokens, time.Minute, 300},
		{"team-tph", "team:t_1", ratelimit.Tokens, time.Hour, 1200},
		{"site-slots", "", ratelimit.Concurrency, 0, 1},
	}
	charges := make([]ratelimit.Charge, 0, len(specs))
	for _, s := range specs {
		l, err := ratelimit.NewLimit(s.name, s.unit, 1<<50, s.window)
		if err != nil {
			tb.Fatal(err)
		}
		charges = append(charges, ratelimit.Charge{Limit: l, Scope: s.scope, Cost: s.cost})
	}
	return charges
}

// cpu is the time that the server's processor spent, in µs, and that of one kind
// of command inside of it.
func cpu(tb testing.TB, command string) (all, inside float64) {
	tb.Helper()
	info := shared.Do(tb, "info", "cpu").(string) + shared.Do(tb, "info", "commandstats").(string)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_cpu_user_main_thread", "used_cpu_sys_main_thread":
			seconds, _ := strconv.ParseFloat(value, 64)
			all += seconds * 1e6
		case "cmdstat_" + command:
			_, usec, _ := strings.Cut(value, "usec=")
			usec, _, _ = strings.Cut(usec, ",")
			inside, _ = strconv.ParseFloat(usec, 64)
		}
	}
	return all, inside
}

// round is how many calls are made between two readings.
const round = 2000

// serverCPU makes b.N calls, many at a time, and reports what one costs the
// server: its processor in all, and the script alone; the median of rounds and
// the best one, since other processes disturb. After each round comes after.
func serverCPU(b *testing.B, call func(i int) error, after func(first, last int)) {
	b.Helper()
	var alls, scripts []float64
	for first := 1; first <= b.N; first += round {
		last := min(b.N, first+round-1)
		shared.Do(b, "config", "resetstat")
		before, _ := cpu(b, "evalsha")
		together(b, first, last, call)
		all, inside := cpu(b, "evalsha")
		b.StopTimer()
		alls, scripts = append(alls, (all-before)/float64(last-first+1)), append(scripts, inside/float64(last-first+1))
		after(first, last)
		b.StartTimer()
	}
	slices.Sort(alls)
	slices.Sort(scripts)
	b.ReportMetric(alls[len(alls)/2], "redis-µs/op")
	b.ReportMetric(alls[0], "redis-best-µs/op")
	b.ReportMetric(scripts[len(scripts)/2], "script-µs/op")
}

// together makes the calls first to last by 64 callers.
func together(b *testing.B, first, last int, call func(i int) error) {
	b.Helper()
	var next atomic.Int64
	next.Store(int64(first))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i <= int64(last); i = next.Add(1) - 1 {
				if err := call(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchStore(b *testing.B) *redisstore.Store {
	b.Helper()
	redistest.Need(b)
	shared.Flush(b)
	s, err := redisstore.New(redisstore.Options{URL: shared.URL(), Connections: 2})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkAdmit goes round a hundred keys. What was admitted is settled outside
// of the measurement.
func BenchmarkAdmit(b *testing.B) {
	for _, n := range []int{10, 3, 1} {
		b.Run(fmt.Sprintf("limits=%d", n), func(b *testing.B) {
			x := newExchanges(b, n)
			serverCPU(b, x.admit, func(first, last int) { together(b, first, last, x.settle) })
		})
	}
}

// BenchmarkSettle settles what was admitted outside of the measurement.
func BenchmarkSettle(b *testing.B) {
	for _, n := range []int{10, 3, 1} {
		b.Run(fmt.Sprintf("limits=%d", n), func(b *testing.B) {
			x := newExchanges(b, n)
			together(b, 1, min(b.N, round), x.admit)
			serverCPU(b, x.settle, func(_, last int) { together(b, last+1, min(b.N, last+round), x.admit) })
		})
	}
}

// BenchmarkLatency is an admit and its settle by one caller, as a client sees it.
func BenchmarkLatency(b *testing.B) {
	x := newExchanges(b, 3)
	var took []time.Duration
	for i := range b.N {
		begun := time.Now()
		if err := x.admit(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
		if err := x.settle(i); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "admit-p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "admit-p99-µs")
}

// exchanges makes calls for a hundred keys, numbered from 1.
type exchanges struct {
	store  *redisstore.Store
	keys   [][]ratelimit.Charge
	actual []int64
}

func newExchanges(b *testing.B, limits int) *exchanges {
	b.Helper()
	x := &exchanges{store: benchStore(b), keys: make([][]ratelimit.Charge, 100), actual: make([]int64, limits)}
	for i := range x.keys {
		x.keys[i] = tenLimits(b, fmt.Sprintf("k_%d", i))[:limits]
	}
	for i := range x.actual {
		x.actual[i] = x.keys[0][i].Cost * 2 / 3
	}
	return x
}

func (x *exchanges) id(i int) ratelimit.ID { return ratelimit.ID{Instance: 1 << 60, Seq: uint64(i)} }

func (x *exchanges) admit(i int) error {
	_, err := x.store.Admit(context.Background(), x.id(i), x.keys[i%len(x.keys)], ratelimit.AdmitOptions{})
	return err
}

func (x *exchanges) settle(i int) error {
	return x.store.Settle(context.Background(), x.id(i), x.actual)
}

// BenchmarkIncrBy is the least that a script can do: a fixed window, twice the
// limit at its edge, no refunds, no idempotence.
func BenchmarkIncrBy(b *testing.B) {
	script := redis.NewScript(`
		local n = redis.call('INCRBY', KEYS[1], ARGV[1])
		if n == tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], 60) end
		return n`)
	benchScript(b, script, func(i int) ([]string, []any) {
		return []string{fmt.Sprintf("{weir0}:k_%d", i%100)}, []any{1200}
	})
}

// BenchmarkGCRA is the script of go-redis/redis_rate: one limit of one scope,
// which cannot be refunded.
func BenchmarkGCRA(b *testing.B) {
	script := redis.NewScript(`
redis.replicate_commands()
local rate_limit_key = KEYS[1]
local burst = ARGV[1]
local rate = ARGV[2]
local period = ARGV[3]
local cost = tonumber(ARGV[4])
local emission_interval = period / rate
local increment = emission_interval * cost
local burst_offset = emission_interval * burst
local jan_1_2017 = 1483228800
local now = redis.call("TIME")
now = (now[1] - jan_1_2017) + (now[2] / 1000000)
local tat = redis.call("GET", rate_limit_key)
if not tat then tat = now else tat = tonumber(tat) end
tat = math.max(tat, now)
local new_tat = tat + increment
local allow_at = new_tat - burst_offset
local diff = now - allow_at
local remaining = diff / emission_interval
if remaining < 0 then
  local reset_after = tat - now
  local retry_after = diff * -1
  return {0, 0, tostring(retry_after), tostring(reset_after)}
end
local reset_after = new_tat - now
if reset_after > 0 then
  redis.call("SET", rate_limit_key, new_tat, "EX", math.ceil(reset_after))
end
return {cost, remaining, tostring(-1), tostring(reset_after)}`)
	benchScript(b, script, func(i int) ([]string, []any) {
		return []string{fmt.Sprintf("rate:k_%d", i%100)}, []any{1 << 40, 1 << 40, 60, 1}
	})
}

func benchScript(b *testing.B, script *redis.Script, call func(i int) ([]string, []any)) {
	b.Helper()
	redistest.Need(b)
	shared.Flush(b)
	if err := script.Load(b.Context(), shared.Client).Err(); err != nil {
		b.Fatal(err)
	}
	const batch = 32 // as many as the store's batcher sends together here
	var mu sync.Mutex
	pipe := shared.Client.Pipeline()
	serverCPU(b, func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		keys, args := call(i)
		pipe.EvalSha(b.Context(), script.Hash(), keys, args...)
		if pipe.Len() < batch {
			return nil
		}
		_, err := pipe.Exec(b.Context())
		return err
	}, func(int, int) {
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Error(err)
		}
	})
}

// TestMemoryPerKey: what a key costs that is busy all the time, with a limit of
// requests and one of tokens.
func TestMemoryPerKey(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	clock := storetest.NewClock()
	s := virtual(t, clock)
	rpm, tpm := newLimit(t, "key-rpm", ratelimit.Requests, 1000, time.Minute), newLimit(t, "key-tpm", ratelimit.Tokens, 1e9, time.Minute)
	const scope = "key:k_7f3a9c21"
	charges := []ratelimit.Charge{{Limit: rpm, Scope: scope, Cost: 1}, {Limit: tpm, Scope: scope, Cost: 1234}}
	for i := range 70 * 5 {
		clock.Advance(200 * time.Millisecond)
		id := ratelimit.ID{Instance: 1 << 60, Seq: uint64(i)}
		if _, err := s.Admit(t.Context(), id, charges, ratelimit.AdmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	key := "{weir0}:w:" + scope
	used, encoding := shared.Do(t, "memory", "usage", key).(int64), shared.Do(t, "object", "encoding", key)
	t.Logf("%d bytes, as %s", used, encoding)
	if used > 500 {
		t.Errorf("a key takes %d bytes as %s, want 500 at most: %v", used, encoding, shared.Do(t, "hgetall", key))
	}
	for field, value := range shared.Client.HGetAll(t.Context(), key).Val() {
		if len(value) > 64 {
			t.Errorf("field %s is %d bytes, want 64 at most: %s", field, len(value), value)
		}
	}
}
