package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/envoy"
)

// afterTime is waited after a load, so that what a chain does later, such as
// writing its ledger, is counted too.
const afterTime = 150 * time.Millisecond

// bench measures.
type bench struct {
	plan     plan
	dir      string
	progress *progress

	weir, envoy string // binaries

	// What runs, once measure has started it.
	simulator *child
	chains    map[string]*chain
	sent      map[string]*tally // to the chains that have a ledger
}

// run is one workload on one chain in one round.
type run struct {
	Round    int     `json:"round"`
	Chain    string  `json:"chain"`
	Workload string  `json:"workload"`
	Requests int     `json:"requests"`
	Tokens   int     `json:"tokens"` // of each stream; 0: plain
	Seconds  float64 `json:"seconds"`
	Figures  figures `json:"figures"`
	Usage    usage   `json:"usage"`
	// Others is the share of the machine that other programs took meanwhile.
	Others float64 `json:"others"`
}

// build makes the binaries ready.
func (b *bench) build(ctx context.Context) (err error) {
	if b.envoy, err = envoy.Find(os.Getenv); err != nil {
		return err
	}
	b.progress.say("building weir")
	bin := filepath.Join(b.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return fmt.Errorf("make a folder for weir's binary: %w", err)
	}
	b.weir, err = site.Build(ctx, bin, "-trimpath", "-buildvcs=auto")
	return err
}

// measure runs the plan. All chains run all the time, idle but for the one that
// is measured and the one beside it, and take turns of a few seconds: a machine may be faster
// now and slower in a minute, and the chains are to be compared on the same one.
func (b *bench) measure(ctx context.Context) (runs []run, err error) {
	b.simulator, err = startChild(ctx, regexp.MustCompile(`http://(\S+)/v1$`), b.weir, "simulate", "--listen", "127.0.0.1:0", "--model", modelName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.simulator.stop()) }()
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	runs, err = b.rounds(ctx)
	if err := errors.Join(err, b.stop()); err != nil {
		return nil, err
	}
	for name, sent := range b.sent {
		if err := sent.compare(filepath.Join(b.dir, name, "usage.jsonl")); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return runs, nil
}

// start runs all chains, uses the limit up that is to refuse, and has weir read the first
// streams itself: it does until it has learned how those of an upstream are.
func (b *bench) start(ctx context.Context) error {
	b.chains, b.sent = map[string]*chain{}, map[string]*tally{chainWeir: {}, chainRedis: {}, chainPiece: {}}
	for _, name := range chainNames() {
		b.progress.say("starting " + name)
		c, err := b.startChain(ctx, name, filepath.Join(b.dir, name), b.simulator.ready)
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		b.chains[name] = c
	}
	spend := workload{name: "spend", request: chat(spentKey, 0), conns: 1, count: 1, status: http.StatusOK}
	first := stream(shortest, 32, 1)
	for _, w := range []*workload{&spend, &first} {
		b.sent[chainWeir].add(w)
		if _, err := drive(ctx, b.chains[chainWeir].addr, w, w.count); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stop() error {
	var errs []error
	for _, c := range b.chains {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// rounds measures as often as planned, and then more often what was disturbed.
func (b *bench) rounds(ctx context.Context) (runs []run, err error) {
	for round := range b.plan.rounds {
		for i := range b.plan.workloads {
			if runs, err = b.turns(ctx, runs, round+1, &b.plan.workloads[i]); err != nil {
				return nil, err
			}
		}
	}
	for end := time.Now().Add(b.plan.spare); time.Now().Before(end); {
		w, round := b.neediest(runs)
		if w == nil {
			break
		}
		if runs, err = b.turns(ctx, runs, round, w); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// neediest is the workload that has the fewest undisturbed rounds, if they are
// fewer than planned, and the number of its next round.
func (b *bench) neediest(runs []run) (w *workload, round int) {
	fewest := b.plan.rounds
	for i := range b.plan.workloads {
		calm, all := rounds(runs, b.plan.workloads[i].name)
		if len(calm) < fewest {
			w, round, fewest = &b.plan.workloads[i], len(all)+1, len(calm)
		}
	}
	return w, round
}

// disturbed is the share of the machine above which other programs spoil a round.
const disturbed = 0.10

// rounds are those of a workload: all, and those that were disturbed on no chain.
func rounds(runs []run, workload string) (calm, all []int) {
	others := map[int]float64{}
	for i := range runs {
		if r := &runs[i]; r.Workload == workload {
			others[r.Round] = max(others[r.Round], r.Others)
		}
	}
	all = slices.Sorted(maps.Keys(others))
	for _, round := range all {
		if others[round] <= disturbed {
			calm = append(calm, round)
		}
	}
	return calm, all
}

// turns measures a workload on one chain after the other, and appends to runs.
func (b *bench) turns(ctx context.Context, runs []run, round int, w *workload) ([]run, error) {
	names := turnOrder()
	for i := range names {
		// Another one is the first in each round.
		name := names[(i+round)%len(names)]
		if !slices.Contains(w.chains, name) {
			continue
		}
		r, err := b.run(ctx, b.chains[name], b.beside(name, w), w)
		if err != nil {
			return nil, fmt.Errorf("round %d, %s: %w", round, name, err)
		}
		if sent, ok := b.sent[name]; ok {
			sent.add(w)
		}
		r.Round, r.Chain = round, name
		b.progress.run(&r)
		runs = append(runs, r)
	}
	return runs, nil
}

// beside is plain Envoy where it has the same load at the same time: on a machine of which
// others have a part too, streams take half as much again in one turn as in the next, and what
// two chains take at the same time varies by 2 %.
func (b *bench) beside(name string, w *workload) *chain {
	if w.tokens == 0 || name == chainPlain {
		return nil
	}
	return b.chains[chainPlain]
}

// run measures a workload, after a warm-up.
func (b *bench) run(ctx context.Context, c, beside *chain, w *workload) (run, error) {
	if _, err := drive(ctx, c.addr, w, w.warmup); err != nil {
		return run{}, err
	}
	pause(ctx)
	start := time.Now()
	before, err := readUsage(c, beside, b.simulator.pid())
	if err != nil {
		return run{}, err
	}
	t, err := driveBoth(ctx, c, beside, w)
	if err != nil {
		return run{}, err
	}
	pause(ctx)
	after, err := readUsage(c, beside, b.simulator.pid())
	if err != nil {
		return run{}, err
	}
	used := after.since(before)
	return run{
		Workload: w.name, Requests: w.count, Tokens: w.tokens, Seconds: t.wall.Seconds(), Usage: used,
		Figures: newFigures(t, used, w.count),
		Others:  used.others().Seconds() / time.Since(start).Seconds() / float64(runtime.NumCPU()),
	}, nil
}

// driveBoth sends a load to a chain, and to the one beside it if there is one.
func driveBoth(ctx context.Context, c, beside *chain, w *workload) (t timing, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		t, err = drive(ctx, c.addr, w, w.count)
		return err
	})
	if beside != nil {
		group.Go(func() error {
			_, err := drive(ctx, beside.addr, w, w.count)
			return err
		})
	}
	err = group.Wait()
	return t, err
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(afterTime):
	}
}

// tally is what weir's ledger must have.
type tally struct {
	ok, refused int
	output      int64 // tokens
}

// add counts a workload that was run, with its warm-up. Requests without a key
// that is known are nobody's, and not in the ledger.
func (t *tally) add(w *workload) {
	n := w.warmup + w.count
	switch {
	case w.name == unknown:
	case w.name == limited:
		t.refused += n
	case w.tokens > 0:
		t.ok += n
		t.output += int64(n * w.tokens)
	default:
		t.ok += n
		t.output += int64(n * plainTokens)
	}
}

// compare reads a ledger, which must have a line for each request and the right
// sum of tokens.
func (t *tally) compare(file string) error {
	var got tally
	err := site.Lines(file, func(line []byte) error {
		var r struct {
			Outcome string                 `json:"outcome"`
			Tokens  struct{ Output int64 } `json:"tokens"`
			Source  string                 `json:"tokens_source"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("a line of the ledger: %w", err)
		}
		switch {
		case r.Outcome == "ok" && r.Source == "exact":
			got.ok++
		case r.Outcome == "refused":
			got.refused++
		default:
			return fmt.Errorf("a line of the ledger that must not be: %s", bytes.TrimSpace(line))
		}
		got.output += r.Tokens.Output
		return nil
	})
	if err == nil && got != *t {
		err = fmt.Errorf("weir's ledger has %+v, want %+v", got, *t)
	}
	return err
}
