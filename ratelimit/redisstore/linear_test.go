package redisstore_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// Three replicas share a few scopes through a network that delays, cuts and
// halts. Whatever they were answered must have one order in which a plain counter
// would have answered so; a call whose outcome is unknown may have happened, at
// any time after it began, or not.

const (
	linearScopes = 25
	linearIDs    = 24 // of one scope
	linearTokens = 10 // the limit
	linearSlots  = 3
)

// linearCall is what a replica asked.
type linearCall struct {
	scope int
	kind  byte // 'a'dmit, 's'ettle, 'c'ancel, 'p'eek
	id    int  // of the scope's
	cost  int64
}

// linearAnswer is what it heard.
type linearAnswer struct {
	unknown  bool
	admitted bool
	used     int64 // as a state tells
	slots    int64
}

// counter is the state of one scope. Of each ID it knows what it holds: 0 before
// it was admitted, 1 + cost while it is open, -1 after its end.
type counter struct {
	used, slots int64
	ids         [linearIDs]int64
}

// end ends an open ID at what it really cost.
func (c counter) end(id int, actual int64) counter {
	if c.ids[id] > 0 {
		c.used += actual - (c.ids[id] - 1)
		c.slots--
		c.ids[id] = -1
	}
	return c
}

// after is the state after a call that took effect, and whether the answer is
// what it would have been.
func (c counter) after(call linearCall, a linearAnswer) (counter, bool) {
	admitted := true
	switch call.kind {
	case 'a':
		if c.ids[call.id] == 0 {
			admitted = c.used+call.cost <= linearTokens && c.slots < linearSlots
			if admitted {
				c.used, c.slots, c.ids[call.id] = c.used+call.cost, c.slots+1, call.cost+1
			}
		}
	case 's':
		c = c.end(call.id, call.cost)
	case 'c':
		c = c.end(call.id, 0)
		c.ids[call.id] = -1
	}
	right := a.admitted == admitted && a.used == c.used && a.slots == c.slots
	if call.kind == 's' || call.kind == 'c' {
		right = true
	}
	return c, right || a.unknown
}

var linearModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		scopes := make([][]porcupine.Operation, linearScopes)
		for _, op := range history {
			scope := op.Input.(linearCall).scope
			scopes[scope] = append(scopes[scope], op)
		}
		return scopes
	},
	Init: func() []any { return []any{counter{}} },
	Step: func(state, input, output any) []any {
		before, answer := state.(counter), output.(linearAnswer)
		var states []any
		if after, right := before.after(input.(linearCall), answer); right {
			states = append(states, after)
		}
		if answer.unknown {
			states = append(states, before)
		}
		return states
	},
	Equal: func(a, b any) bool { return a == b },
}

// replica makes calls and notes what it was answered.
type replica struct {
	*testing.T
	number int
	store  *redisstore.Store
	start  time.Time
	tokens *ratelimit.Limit
	slots  *ratelimit.Limit

	history []porcupine.Operation
	unknown int
}

func (r *replica) charges(scope int, cost int64) []ratelimit.Charge {
	name := fmt.Sprintf("key:%d", scope)
	return []ratelimit.Charge{{Limit: r.tokens, Scope: name, Cost: cost}, {Limit: r.slots, Scope: name, Cost: 1}}
}

// call makes one, and answers whether its outcome is known. One that certainly
// did not take effect is no part of the history.
func (r *replica) call(c linearCall) (known bool, a linearAnswer) {
	begun := time.Since(r.start)
	id := ratelimit.ID{Instance: uint64(1000 + c.scope), Seq: uint64(c.id)}
	var states []ratelimit.State
	var err error
	switch c.kind {
	case 'a':
		var d ratelimit.Decision
		d, err = r.store.Admit(r.Context(), id, r.charges(c.scope, c.cost), ratelimit.AdmitOptions{})
		a.admitted, states = d.Admitted, d.States
	case 's':
		err = r.store.Settle(r.Context(), id, []int64{c.cost, 0})
	case 'c':
		err = r.store.Cancel(r.Context(), id)
	case 'p':
		a.admitted = true
		states, err = r.store.Peek(r.Context(), r.charges(c.scope, 0))
	}
	returned := time.Since(r.start).Nanoseconds()
	switch {
	case errors.Is(err, ratelimit.ErrUnavailable), errors.Is(err, ratelimit.ErrTooLate), err != nil && c.kind == 'p':
		return false, a
	case errors.Is(err, ratelimit.ErrUnknown):
		a, returned = linearAnswer{unknown: true}, math.MaxInt64
		r.unknown++
	case err != nil:
		r.Errorf("%+v = error %v", c, err)
	case states != nil:
		a.used, a.slots = states[0].Used, states[1].Used
	}
	r.history = append(r.history, porcupine.Operation{
		ClientId: r.number, Input: c, Call: begun.Nanoseconds(), Output: a, Return: returned,
	})
	return err == nil, a
}

// exchange runs one from its admit to its end, as a gateway would: what is
// unknown is asked again or cancelled.
func (r *replica) exchange(scope, id int) {
	c := linearCall{scope: scope, kind: 'a', id: id, cost: rand.Int64N(4)}
	known, a := r.call(c)
	for !known && rand.IntN(2) == 0 {
		known, a = r.call(c)
	}
	if known && !a.admitted {
		return
	}
	if rand.IntN(3) == 0 {
		r.call(linearCall{scope: scope, kind: 'p'})
	}
	end := linearCall{scope: scope, kind: 's', id: id, cost: rand.Int64N(5)}
	if !known || rand.IntN(3) == 0 {
		end.kind, end.cost = 'c', 0
	}
	for range 3 {
		if ended, _ := r.call(end); ended && rand.IntN(8) > 0 {
			return
		}
	}
}

// disturbance is what happens to the network while replicas make calls.
type disturbance struct {
	fault func(i int) // brings the next one about, in place of the last
	calm  func()      // ends it
	each  time.Duration
}

func TestLinearizable(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	linearizable(t, [3]string{proxy.Addr, proxy.Addr, proxy.Addr}, disturbance{
		each: 150 * time.Millisecond,
		calm: func() { proxy.Set(redistest.Faults{}) },
		fault: func(i int) {
			switch i % 4 {
			case 0:
				proxy.Set(redistest.Faults{Delay: 3 * time.Millisecond})
			case 1:
				proxy.Set(redistest.Faults{Delay: time.Millisecond, CutRequests: 0.05, CutReplies: 0.1})
			case 2:
				proxy.Set(redistest.Faults{Delay: 200 * time.Millisecond})
			case 3:
				proxy.Set(redistest.Faults{Delay: time.Millisecond, CutReplies: 0.2})
				server.Stop()
				time.AfterFunc(120*time.Millisecond, server.Continue)
			}
		},
	})
}

// TestLinearizableThroughToxiproxy has a proxy of each replica's own, which is not ours.
func TestLinearizableThroughToxiproxy(t *testing.T) {
	server := redistest.Start(t)
	proxy := startToxiproxy(t)
	var addrs [3]string
	for n := range addrs {
		addrs[n] = proxy.proxy(strconv.Itoa(n), server.Addr)
	}
	slow := func(stream string, ms int) toxic {
		return toxic{Type: "latency", Stream: stream, Toxicity: 1, Attributes: map[string]int{"latency": ms, "jitter": ms}}
	}
	// One replica has toxics at a time, and all are a bit slow: so its calls cross others'.
	set := func(victim int, toxics ...toxic) {
		all := map[string][]toxic{}
		for n := range addrs {
			all[strconv.Itoa(n)] = []toxic{slow("upstream", 4)}
		}
		name := strconv.Itoa(victim)
		all[name] = append(all[name], toxics...)
		if err := proxy.set(all); err != nil {
			t.Errorf("Toxiproxy: %v", err)
		}
	}
	linearizable(t, addrs, disturbance{
		each: 100 * time.Millisecond,
		calm: func() { set(0) },
		fault: func(i int) {
			victim := i % len(addrs)
			switch i % 5 {
			case 0: // slow, and in pieces
				set(victim, slow("downstream", 2), toxic{
					Type: "slicer", Stream: "downstream", Toxicity: 1, Attributes: map[string]int{"average_size": 16, "size_variation": 8, "delay": 10},
				})
			case 1: // the connection ends within a reply
				set(victim, toxic{Type: "limit_data", Stream: "downstream", Toxicity: 1, Attributes: map[string]int{"bytes": 500}})
			case 2: // and within a request
				set(victim, toxic{Type: "limit_data", Stream: "upstream", Toxicity: 1, Attributes: map[string]int{"bytes": 2000}})
			case 3: // it is reset after a moment, with what is in it
				set(victim, slow("downstream", 5), toxic{Type: "reset_peer", Stream: "downstream", Toxicity: 1, Attributes: map[string]int{"timeout": 20}})
			case 4: // nothing comes back, for longer than a replica waits
				set(victim, slow("downstream", 400))
			}
		},
	})
}

// linearizable has three replicas make calls, each by its own address, while they are
// disturbed, and checks what they were answered.
func linearizable(t *testing.T, addrs [3]string, d disturbance) {
	start := time.Now()
	var replicas [3]*replica
	var running sync.WaitGroup
	for n := range replicas {
		s, err := redisstore.New(redisstore.Options{URL: "redis://" + addrs[n], Timeout: 200 * time.Millisecond, Connections: 2})
		r := &replica{
			T: t, number: n, store: opened(t, s, err), start: start,
			tokens: newLimit(t, "tokens", ratelimit.Tokens, linearTokens, 24*time.Hour),
			slots:  newLimit(t, "slots", ratelimit.Concurrency, linearSlots, 0),
		}
		replicas[n] = r
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for id := n; id < linearIDs; id += len(replicas) {
				for scope := range linearScopes {
					r.exchange(scope, id)
				}
			}
		})
	}
	stop := make(chan struct{})
	running.Go(func() { d.run(stop) })
	time.AfterFunc(4*time.Second, func() { close(stop) })
	running.Wait()

	var history []porcupine.Operation
	unknown := 0
	for _, r := range replicas {
		history = append(history, r.history...)
		unknown += r.unknown
	}
	t.Logf("%d calls, %d of them with an unknown outcome", len(history), unknown)
	if unknown == 0 || unknown > len(history)/2 {
		t.Errorf("%d of %d outcomes are unknown: the faults are not as they should be", unknown, len(history))
	}
	if got := porcupine.CheckOperationsTimeout(linearModel.ToModel(), history, 20*time.Second); got != porcupine.Ok {
		t.Errorf("linearizable: %v, want %v", got, porcupine.Ok)
	}
}

// run lets one fault follow another.
func (d disturbance) run(stop chan struct{}) {
	defer d.calm()
	for i := 0; ; i++ {
		d.fault(i)
		select {
		case <-stop:
			return
		case <-time.After(d.each):
		}
	}
}
