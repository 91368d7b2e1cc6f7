package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// TestSentinel takes the master away from weir and has Sentinels promote another.
// Meanwhile each limit does what it says and nobody waits; afterwards the new
// master counts, what happened without it too.
func TestSentinel(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		s := newSwitch(t)
		s.watched.Servers[0].Kill()
		s.begun, s.without = time.Now(), time.Now()
		s.eventually("weir knows that Redis is away", func() bool { return s.store() == "away" })
		s.policiesAlone()
		s.stream() // the new master has to be told of it
		s.promoted()
		s.recovered()
		s.policiesAfter()
		// The old master comes back, empty, and takes itself for the master still.
		if err := s.watched.Servers[0].Up(); err != nil {
			t.Fatal(err)
		}
		s.finish()
		// What the old master had said and not yet passed on when it was killed is lost:
		// perhaps the end of the one request that each key has under way.
		for _, policy := range policies() {
			if n := s.used(policy+"-much", "slots"); n > 1 {
				t.Errorf("%s: %d slots are taken, want at most that of the one request under way at the kill", policy, n)
			}
		}
		for _, policy := range policies() {
			s.awaitSlots(policy+"-much", 0, ratelimit.LeaseTTL+time.Second)
		}
	})
	t.Run("switched", func(t *testing.T) {
		t.Parallel()
		s := newSwitch(t)
		s.begun = time.Now()
		s.watched.Sentinels[0].Do(t, "sentinel", "failover", redistest.Master)
		s.promoted()
		// The old master counts as long as it is asked, and will forget that.
		s.eventually("nobody asks the old master", func() bool {
			clients, err := s.watched.Servers[0].Client.ClientList(t.Context()).Result()
			return err == nil && !strings.Contains(clients, "name=weir")
		})
		s.without = time.Now()
		s.recovered()
		s.finish()
		// A request that ended when nobody listened to the old master any more, and
		// had begun before, has a slot until its lease ends.
		for _, policy := range policies() {
			if n := s.used(policy+"-much", "slots"); n > 1 {
				t.Errorf("%s: %d slots are taken, want at most that of the one request under way at the switch", policy, n)
			}
		}
	})
}

// Of each policy there are two keys: one with a limit that nobody reaches, and one
// that is allowed a few requests.
const (
	few  = 3
	much = 100_000
)

func policies() []string { return []string{"open", "closed", "local"} }

func policyKeys() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - {id: probe, secret: %s, limits: [{name: rph, per: [key], requests: %d/h, on_store_failure: closed}]}\n", secretOf("probe"), much)
	for _, policy := range policies() {
		for name, most := range map[string]int{"few": few, "much": much} {
			id := policy + "-" + name
			fmt.Fprintf(&b, "  - {id: %s, secret: %s, limits: [{name: rph, per: [key], requests: %d/h, on_store_failure: %s}]}\n",
				id, secretOf(id), most, policy)
		}
	}
	return b.String()
}

func secretOf(keyID string) string { return "sk-test-" + keyID + "-0123456789abcdef" }

// masterSwitch is a site whose Redis gets a new master under load.
type masterSwitch struct {
	*rig
	watched *redistest.Watched
	streams []io.Closer
	begun   time.Time // of the switch
	without time.Time // in what is decided from now on the old master has no part
	became  time.Time // the new one the master
	named   time.Time // it is by all Sentinels
	decides time.Time // it does

	stop    chan struct{}
	load    sync.WaitGroup
	answers map[string]*[]answer // by key; of the load, once it has ended
}

// answer is one to a request of the load.
type answer struct {
	begun  time.Time
	took   time.Duration
	status int
	alone  bool // decided without Redis
	retry  string
}

// newSwitch starts a site, some streams, and a load of every policy.
func newSwitch(t *testing.T) *masterSwitch {
	t.Helper()
	s := &masterSwitch{watched: redistest.StartWatched(t), stop: make(chan struct{}), answers: map[string]*[]answer{}}
	s.rig = start(t, fixture{
		redis: s.watched.URL(), model: "tokens=1",
		limits: "  - {name: slots, per: [key], concurrency: 100}\n", keys: policyKeys(),
	})
	for range 3 {
		s.stream()
	}
	for _, policy := range policies() {
		key, answers := policy+"-much", &[]answer{}
		s.answers[key] = answers
		s.load.Go(func() { s.ask(key, answers) })
	}
	t.Cleanup(s.end)
	time.Sleep(500 * time.Millisecond) // the replica has heard of the streams
	return s
}

// stream begins an answer that goes on until the end.
func (s *masterSwitch) stream() {
	s.t.Helper()
	resp, err := s.send(s.t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`, `"max_tokens":100000`),
		"X-Simulate", "tokens=100000,pace=100ms")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	s.streams = append(s.streams, resp.Body)
	if resp.StatusCode != http.StatusOK {
		s.t.Errorf("a stream: status %d", resp.StatusCode)
	}
}

// ask sends requests with a key until the load ends.
func (s *masterSwitch) ask(key string, answers *[]answer) {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		a := answer{begun: time.Now()}
		got, err := s.try(s.t.Context(), http.MethodPost, "/v1/chat/completions", chat(), "Authorization", "Bearer "+secretOf(key))
		if err != nil {
			s.t.Error(err)
			return
		}
		a.took = time.Since(a.begun)
		a.status, a.alone, a.retry = got.status, alone(got), got.header.Get("Retry-After")
		*answers = append(*answers, a)
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
	}
}

// end ends the load, once.
func (s *masterSwitch) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.load.Wait()
}

// alone tells whether an answer was decided without Redis.
func alone(r reply) bool {
	return r.header.Get("X-Weir-Limits") == "degraded" || r.status == http.StatusServiceUnavailable
}

// store is the status of the limit store.
func (s *masterSwitch) store() string {
	s.t.Helper()
	var health struct {
		Parts struct{ Store struct{ Status string } }
	}
	if err := json.Unmarshal([]byte(s.do(http.MethodGet, "/health", "").body), &health); err != nil {
		s.t.Fatal(err)
	}
	return health.Parts.Store.Status
}

// asFew sends a request of the key that is allowed a few.
func (s *masterSwitch) asFew(policy string) reply {
	s.t.Helper()
	return s.post(chat(), "Authorization", "Bearer "+secretOf(policy+"-few"))
}

// policiesAlone sees that each policy does what it says while Redis is away.
func (s *masterSwitch) policiesAlone() {
	s.t.Helper()
	want := map[string][]int{
		"open":   {200, 200, 200, 200},
		"closed": {503, 503, 503, 503},
		"local":  {200, 200, 200, 429},
	}
	for _, policy := range policies() {
		for i, status := range want[policy] {
			got := s.asFew(policy)
			if got.status != status || !alone(got) {
				s.t.Errorf("away, %s, request %d: status %d, alone %v, want %d, true: %s", policy, i+1, got.status, alone(got), status, got.body)
			}
			if status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "1" {
				s.t.Errorf("away, %s: headers %v", policy, got.header)
			}
		}
	}
	if status := s.store(); status != "away" {
		s.t.Errorf("the store is %q while the policies are tried; the switch was too fast to tell", status)
	}
}

// policiesAfter sees that the new master knows what was admitted without it: of an
// open limit as much as it allows.
func (s *masterSwitch) policiesAfter() {
	s.t.Helper()
	for policy, status := range map[string]int{"open": 429, "closed": 200, "local": 429} {
		if got := s.asFew(policy); got.status != status || alone(got) {
			s.t.Errorf("afterwards, %s: status %d, alone %v, want %d, false: %s", policy, got.status, alone(got), status, got.body)
		}
	}
	for policy, want := range map[string]int64{"open": few, "closed": 1, "local": few} {
		if used := s.used(policy+"-few", "rph"); used != want {
			s.t.Errorf("afterwards, %s: %d requests count, want %d", policy, used, want)
		}
	}
}

// promoted waits for the new master.
func (s *masterSwitch) promoted() {
	s.t.Helper()
	s.eventually("the replica is the master", func() bool {
		info, err := s.watched.Servers[1].Client.Info(s.t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	s.became = time.Now()
	for _, sentinel := range s.watched.Sentinels {
		s.eventually("the Sentinels name the new master", func() bool {
			at, err := sentinel.Client.Do(s.t.Context(), "sentinel", "get-master-addr-by-name", redistest.Master).StringSlice()
			return err == nil && strings.Join(at, ":") == s.watched.Servers[1].Addr
		})
	}
	s.named = time.Now()
}

// recovered waits until the new master decides, and has been told everything.
func (s *masterSwitch) recovered() {
	s.t.Helper()
	s.eventually("the new master decides", func() bool {
		got := s.post(chat(), "Authorization", "Bearer "+secretOf("probe"))
		return got.status == http.StatusOK && !alone(got)
	})
	s.decides = time.Now()
	s.eventually("nothing is owed", func() bool { return s.metric("weir_store_owed_exchanges") == "0" })
	s.t.Logf("the new master is one %v after the switch began, is named by all Sentinels %v later, decides %v after that, and %v later knows all",
		round(s.became.Sub(s.begun)), round(s.named.Sub(s.became)), round(s.decides.Sub(s.named)), round(time.Since(s.decides)))
}

// finish lets the load go on for a while, and compares what was answered with what
// the new master counts.
func (s *masterSwitch) finish() {
	s.t.Helper()
	time.Sleep(time.Second)
	s.end()
	s.eventually("nothing is owed in the end", func() bool { return s.metric("weir_store_owed_exchanges") == "0" })
	for _, policy := range policies() {
		s.judge(policy, *s.answers[policy+"-much"])
	}
	s.awaitSlots("good", int64(len(s.streams)), ratelimit.LeaseTTL/2) // a lease that was lost is put back when it is renewed
	for _, stream := range s.streams {
		_ = stream.Close()
	}
	s.awaitSlots("good", 0, 5*time.Second)
}

// summary is what the answers to one key say.
type summary struct {
	served, certain int64           // by anybody; and nobody can have forgotten it
	after, shared   int             // came when the new master decided; were decided by it
	there, away     []time.Duration // how long they took: with Redis, without
}

func (s *masterSwitch) sum(answers []answer) (sum summary) {
	for _, a := range answers {
		if a.alone {
			sum.away = append(sum.away, a.took)
		} else {
			sum.there = append(sum.there, a.took)
		}
		if a.status == http.StatusOK {
			sum.served++
			if a.alone || a.begun.After(s.without) {
				sum.certain++
			}
		}
		if a.begun.After(s.decides) {
			sum.after++
			if !a.alone {
				sum.shared++
			}
		}
	}
	return sum
}

// judge looks at the answers of one policy.
func (s *masterSwitch) judge(policy string, answers []answer) {
	s.t.Helper()
	for _, a := range answers {
		refused := a.status == http.StatusServiceUnavailable && a.retry == "1"
		if a.status != http.StatusOK && !refused || a.alone && refused != (policy == "closed") {
			s.t.Errorf("%s, %v after the switch began: status %d, retry-after %q, alone %v", policy, a.begun.Sub(s.begun), a.status, a.retry, a.alone)
		}
	}
	sum, used := s.sum(answers), s.used(policy+"-much", "rph")
	s.t.Logf("%-6s  %d requests with Redis: half in %v, all in %v; %d without: half in %v, all in %v; %d of %d served count, %d were lost with the old master",
		policy, len(sum.there), half(sum.there), longest(sum.there), len(sum.away), half(sum.away), longest(sum.away),
		used, sum.served, sum.served-used)
	if used > sum.served || used < sum.certain {
		s.t.Errorf("%s: %d requests count; want at most the %d that were served, and at least the %d of them that the old master had no part in",
			policy, used, sum.served, sum.certain)
	}
	if sum.after == 0 || 2*sum.shared < sum.after {
		s.t.Errorf("%s: the new master decided %d of the %d requests that came when it was there", policy, sum.shared, sum.after)
	}
	if took := half(sum.away); took > time.Second {
		s.t.Errorf("%s: half of the requests without Redis took %v or more", policy, took)
	}
}

// half is what half of the durations do not exceed; it sorts them.
func half(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return round(took[(len(took)-1)/2])
}

// longest is the longest of the durations.
func longest(took []time.Duration) time.Duration { return round(slices.Max(append(took, 0))) }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// used is how much of a limit of a key is used, as the store has it.
func (s *masterSwitch) used(key, limit string) int64 {
	s.t.Helper()
	var answer struct {
		Limits []struct {
			Limit string
			Used  int64
		}
	}
	text := s.overSocket("ops.sock", "/limits?key="+key)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	for _, l := range answer.Limits {
		if l.Limit == limit {
			return l.Used
		}
	}
	s.t.Fatalf("no limit %s in %s", limit, text)
	return 0
}

// awaitSlots waits until a key has so many slots.
func (s *masterSwitch) awaitSlots(key string, want int64, most time.Duration) {
	s.t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got := s.used(key, "slots")
		if got == want {
			return
		}
		if took := time.Since(begin); took > most {
			s.t.Errorf("after %v the key %s has %d slots, want %d", took, key, got, want)
			return
		}
	}
}
