package pool

import (
	stdcmp "cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memShare is a share in memory. It keeps what is worse as a Share must.
type memShare struct {
	mu      sync.Mutex
	born    int64 // the version that the next life begins with
	version int64
	entries map[string]Entry
	changed map[string]int64 // the version of each
	ends    map[string]time.Time
	err     error // of each call
	deaf    error // of Publish
	calls   []string
}

func newMemShare() *memShare {
	m := &memShare{born: 1 << 40}
	m.wipe()
	return m
}

// wipe has the share lose everything.
func (m *memShare) wipe() {
	m.born -= 1 << 20
	m.version = 0
	m.entries, m.changed, m.ends = map[string]Entry{}, map[string]int64{}, map[string]time.Time{}
}

func (m *memShare) Publish(_ context.Context, _ string, e Entry) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf("publish %s %s %v", e.KeyID[:3], e.State, e.Disabled))
	if err := stdcmp.Or(m.err, m.deaf); err != nil {
		return 0, err
	}
	old := m.entries[e.KeyID]
	kept := e.Parts&PartState != 0 && old.Version > e.Version && old.State > e.State
	if kept && e.Parts == PartState {
		return 0, nil
	}
	m.version = max(m.version, m.born) + 1
	m.changed[e.KeyID] = m.version
	next := e
	next.Version = m.version
	if kept || e.Parts&PartState == 0 {
		next = old
		next.KeyID = e.KeyID
	} else {
		m.ends[e.KeyID] = time.Now().Add(e.Remaining)
	}
	next.Disabled = old.Disabled
	if e.Parts&PartHand != 0 {
		next.Disabled = e.Disabled
	}
	m.entries[e.KeyID] = next
	if kept {
		return 0, nil
	}
	return m.version, nil
}

func (m *memShare) Poll(_ context.Context, _ string, since int64) (list []Entry, version int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, 0, m.err
	}
	if m.version < since {
		since = 0
	}
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		if e := m.entries[id]; m.changed[id] > since {
			e.Remaining = max(0, time.Until(m.ends[id]))
			list = append(list, e)
		}
	}
	return list, m.version, nil
}

func (m *memShare) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// replica is a pool that runs in a synctest bubble.
type replica struct {
	*Pool
	mu      sync.Mutex
	changes []string
	told    []error
}

func startReplica(ctx context.Context, t *testing.T, share Share, n int, probe func(context.Context, Key) Outcome) *replica {
	t.Helper()
	r := &replica{}
	r.Pool = New(Options{
		Upstream: "up", Share: share,
		Changed: func(c Change) {
			r.mu.Lock()
			defer r.mu.Unlock()
			text := fmt.Sprintf("%s %s→%s", c.Label, c.From, c.To)
			if c.Remote {
				text += " remote"
			}
			r.changes = append(r.changes, text)
		},
		ShareFailed: func(err error) { r.mu.Lock(); defer r.mu.Unlock(); r.told = append(r.told, err) },
	}, testKeys(n))
	go func() {
		if err := r.Run(ctx, probe); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	return r
}

// heard answers the changes and the failures that were told.
func (r *replica) heard() ([]string, []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes), slices.Clone(r.told)
}

// states is the state of each key, such as "healthy cooling".
func (p *Pool) states() string {
	var list []string
	for _, s := range p.Status() {
		list = append(list, s.State.String())
	}
	return strings.Join(list, " ")
}

func (r *replica) attempt(t *testing.T, o Outcome) {
	t.Helper()
	l, err := r.Pick(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Done(o)
}

// want waits for so long and compares the states.
func (r *replica) want(t *testing.T, after time.Duration, states string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := r.states(); got != states {
		t.Fatalf("states = %q, want %q", got, states)
	}
}

func inBubble(t *testing.T, f func(ctx context.Context, t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		f(ctx, t)
		stop()
		synctest.Wait()
	})
}
