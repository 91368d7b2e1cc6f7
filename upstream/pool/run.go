package pool

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	pollEvery    = 500 * time.Millisecond
	shareTimeout = 500 * time.Millisecond // of one call; the client must obey it
	probeEvery   = 5 * time.Minute
	probeTimeout = 30 * time.Second
	probesATick  = 8 // that begin together, of many that are due
)

// jittered is d, up to a tenth less or more, so that replicas and keys part.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5)
}

// Run keeps the pool in touch, until ctx ends: keys in quarantine are probed, what
// changes here is shared, and what others share is taken over. Probe asks the
// upstream for something that costs nothing, such as its models; nil probes
// nothing. It must obey its context.
func (p *Pool) Run(ctx context.Context, probe func(context.Context, Key) Outcome) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	link := link{pool: p}
	link.poll(ctx)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			link.publish(ctx)
		case <-tick.C:
			link.poll(ctx)
			link.publish(ctx)
			if probe == nil {
				continue
			}
			for _, try := range p.due() {
				probes.Go(func() { try.run(ctx, probe) })
			}
		}
	}
}

// link is Run's end of the share.
type link struct {
	pool   *Pool
	failed bool
}

func (l *link) poll(ctx context.Context) {
	p := l.pool
	if p.opts.Share == nil {
		return
	}
	call, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	entries, version, err := p.opts.Share.Poll(call, p.opts.Upstream, p.since())
	l.report(ctx, err)
	if err != nil {
		p.readAgain()
		return
	}
	p.adopt(entries, version)
}

// publish sends what is unshared. After a failure the rest waits for the next tick.
func (l *link) publish(ctx context.Context) {
	p := l.pool
	if p.opts.Share == nil {
		return
	}
	for _, s := range p.unshared() {
		if err := l.send(ctx, s); err != nil {
			return
		}
	}
}

func (l *link) send(ctx context.Context, s *slot) error {
	p := l.pool
	call, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	e := p.take(s)
	version, err := p.opts.Share.Publish(call, p.opts.Upstream, e)
	p.published(s, e, version, err)
	l.report(ctx, err)
	return err
}

// report tells when failing begins and when it ends.
func (l *link) report(ctx context.Context, err error) {
	if ctx.Err() != nil || (err != nil) == l.failed {
		return
	}
	l.failed = err != nil
	if l.pool.opts.ShareFailed != nil {
		l.pool.opts.ShareFailed(err)
	}
}

// probing is a probe of a key in quarantine.
type probing struct {
	pool  *Pool
	slot  *slot
	key   *Key
	epoch uint64
}

// due are probes whose time has come.
func (p *Pool) due() []probing {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []probing
	for _, s := range p.slots {
		if len(list) < probesATick && s.state == Quarantined && !s.disabled && !now.Before(s.probe) {
			s.probe = now.Add(jittered(probeEvery))
			list = append(list, probing{p, s, s.key, s.epoch})
		}
	}
	return list
}

// run takes the key out of quarantine if the probe succeeds. One without money is
// only put on trial: upstreams list their models to those too.
func (a probing) run(ctx context.Context, probe func(context.Context, Key) Outcome) {
	call, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	o := probe(call, *a.key)
	p, s := a.pool, a.slot
	now := p.opts.Now()
	p.mu.Lock()
	defer p.unlock()
	if s.epoch != a.epoch {
		return
	}
	if o.Class != OK {
		if o.Class.Failed() {
			s.last = Failure{o.Class, o.Status, now}
		}
		return
	}
	before := s.shown()
	if s.why == WhyUnpaid {
		s.health = health{state: Cooling, why: WhyProbe, until: now}
	} else {
		s.health = health{state: Healthy, why: WhyProbe}
	}
	p.changed(s, before, now)
}
