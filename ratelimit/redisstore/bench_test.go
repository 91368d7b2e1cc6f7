package redisstore_test

import (
	"context"
	"fmt"
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

// serverCPU runs b.N calls, many at a time, and reports what each costs the
// server: its processor in all, and the script alone.
func serverCPU(b *testing.B, command string, call func(i int) error) {
	b.Helper()
	const callers = 64
	shared.Do(b, "config", "resetstat")
	all, _ := cpu(b, command)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := call(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after, inside := cpu(b, command)
	b.ReportMetric((after-all)/float64(b.N), "redis-µs/op")
	b.ReportMetric(inside/float64(b.N), "script-µs/op")
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

// BenchmarkAdmit has a hundred keys: ReceiptTTL's worth of receipts is kept, and
// nothing is settled.
func BenchmarkAdmit(b *testing.B) {
	for _, n := range []int{10, 3, 1} {
		b.Run(fmt.Sprintf("limits=%d", n), func(b *testing.B) {
			s := benchStore(b)
			keys := make([][]ratelimit.Charge, 100)
			for i := range keys {
				keys[i] = tenLimits(b, fmt.Sprintf("k_%d", i))[:n]
			}
			serverCPU(b, "evalsha", func(i int) error {
				_, err := s.Admit(context.Background(), ratelimit.ID{Instance: 1 << 60, Seq: uint64(i)}, keys[i%len(keys)], ratelimit.AdmitOptions{})
				return err
			})
		})
	}
}

// BenchmarkExchange admits and settles.
func BenchmarkExchange(b *testing.B) {
	for _, n := range []int{10, 3, 1} {
		b.Run(fmt.Sprintf("limits=%d", n), func(b *testing.B) {
			s := benchStore(b)
			keys := make([][]ratelimit.Charge, 100)
			for i := range keys {
				keys[i] = tenLimits(b, fmt.Sprintf("k_%d", i))[:n]
			}
			actual := make([]int64, n)
			for i := range actual {
				actual[i] = keys[0][i].Cost * 2 / 3
			}
			serverCPU(b, "evalsha", func(i int) error {
				id := ratelimit.ID{Instance: 1 << 60, Seq: uint64(i)}
				if _, err := s.Admit(context.Background(), id, keys[i%len(keys)], ratelimit.AdmitOptions{}); err != nil {
					return err
				}
				return s.Settle(context.Background(), id, actual)
			})
		})
	}
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
	serverCPU(b, "evalsha", func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		keys, args := call(i)
		pipe.EvalSha(b.Context(), script.Hash(), keys, args...)
		if i%batch != 0 && i != b.N {
			return nil
		}
		_, err := pipe.Exec(b.Context())
		return err
	})
}
