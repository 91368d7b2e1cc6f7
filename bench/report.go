package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// Targets of what weir adds to the no-op server, in µs of CPU time.
const (
	targetRequest = 60
	targetChunk   = 3
)

// Goals of the CPU time of a stream, Envoy and Go, to that of plain Envoy.
const (
	goalNative = 1.6
	goalPieces = 3.2
)

// report is what came of a benchmark.
type report struct {
	Machine machine                       `json:"machine"`
	Rounds  int                           `json:"rounds"`
	Best    map[string]map[string]figures `json:"best"` // by workload and chain
	Summary summary                       `json:"summary"`
	Runs    []run                         `json:"runs"`

	plan  plan
	count map[string][]int // the rounds that count, by workload
	// Of rounds, all and those that count, and the largest share of other
	// programs in the latter.
	made, kept int
	others     float64
}

// summary is what the figures say: costs in µs of CPU time, latencies in ms,
// ratios of the CPU time of Envoy and the Go server together.
type summary struct {
	// Weir's process above the no-op server's.
	AddedRequest added `json:"added_request_us"`
	AddedChunk   added `json:"added_chunk_us"` // one more chunk of a stream
	AddedStream  added `json:"added_stream_us"`
	// Weir above plain Envoy, one request at a time.
	AddedP50 float64 `json:"added_p50_ms"`
	AddedP99 float64 `json:"added_p99_ms"`

	RequestWeir float64 `json:"request_weir_to_noop"`
	RequestNoop float64 `json:"request_noop_to_plain"`
	// Of streams, at the same time.
	StreamWeir  spread `json:"stream_weir_to_plain"`  // read inside of Envoy
	StreamPiece spread `json:"stream_piece_to_plain"` // seen by weir
	StreamNoop  spread `json:"stream_noop_to_plain"`
	// A request that weir refuses to one that the no-op server lets pass.
	Refused401 float64 `json:"refused_401_to_noop"`
	Refused429 float64 `json:"refused_429_to_noop"`

	Chunk  map[string]chunkCost `json:"chunk"` // by chain
	AtRate []atRateRow          `json:"at_rate"`
}

// added is a difference: of the best figures, and of those of each round that
// counts.
type added struct {
	Best   float64   `json:"best"`
	Rounds []float64 `json:"rounds"` // in ascending order
}

// String tells the range of the rounds too.
func (a added) String() string {
	n := len(a.Rounds)
	if n == 0 {
		return fmt.Sprintf("%7.1f µs", a.Best)
	}
	return fmt.Sprintf("%7.1f µs; in each of %d rounds %.1f … %.1f, median %.1f", a.Best, n, a.Rounds[0], a.Rounds[n-1], newSpread(a.Rounds).Median)
}

// chunkCost is what one more chunk takes, in µs of CPU time.
type chunkCost struct {
	Envoy  float64 `json:"envoy_us"`
	Server float64 `json:"server_us"`
	Both   float64 `json:"envoy_and_server_us"`
}

func newReport(m machine, p plan, runs []run) *report {
	r := &report{
		Machine: m, Rounds: p.rounds, Best: map[string]map[string]figures{}, Runs: runs,
		plan: p, count: map[string][]int{},
	}
	for _, w := range p.workloads {
		calm, all := rounds(runs, w.name)
		if len(calm) == 0 {
			calm = all
		}
		r.count[w.name] = calm
		r.made += len(all)
		r.kept += len(calm)
		r.choose(w.name)
	}
	r.summarize()
	return r
}

// choose takes the best of each figure of a workload, of the rounds that count:
// the same for all chains, so that none of them is favoured.
func (r *report) choose(workload string) {
	chains := map[string]figures{}
	for i := range r.Runs {
		one := &r.Runs[i]
		if one.Workload != workload || !slices.Contains(r.count[workload], one.Round) {
			continue
		}
		r.others = max(r.others, one.Others)
		if f, ok := chains[one.Chain]; ok {
			chains[one.Chain] = best(f, one.Figures)
		} else {
			chains[one.Chain] = one.Figures
		}
	}
	r.Best[workload] = chains
}

func (r *report) summarize() {
	request, alone := r.Best[plainly], r.Best[single]
	r.Summary = summary{
		AddedRequest: r.added(chainWeir, func(f at) float64 { return f(plainly).Server }, plainly),
		AddedChunk:   r.added(chainPiece, func(f at) float64 { return chunk(f).Server }, streamName(shortest), streamName(longest)),
		AddedStream:  r.added(chainPiece, func(f at) float64 { return f(streamName(usual)).Server }, streamName(usual)),
		AddedP50:     alone[chainWeir].P50 - alone[chainPlain].P50,
		AddedP99:     alone[chainWeir].P99 - alone[chainPlain].P99,
		RequestWeir:  request[chainWeir].Both / request[chainNoop].Both,
		RequestNoop:  request[chainNoop].Both / request[chainPlain].Both,
		StreamWeir:   r.toPlain(streamName(usual), chainWeir),
		StreamPiece:  r.toPlain(streamName(usual), chainPiece),
		StreamNoop:   r.toPlain(streamName(usual), chainNoop),
		Refused401:   r.Best[unknown][chainWeir].Both / request[chainNoop].Both,
		Refused429:   r.Best[limited][chainWeir].Both / request[chainNoop].Both,
		Chunk:        map[string]chunkCost{},
	}
	for _, chain := range streaming() {
		r.Summary.Chunk[chain] = chunk(r.best(chain))
	}
	r.Summary.AtRate = append(r.atRate(slow), r.atRate(fast)...)
}

// at gives the figures of a workload on some chain.
type at func(workload string) figures

func (r *report) best(chain string) at {
	return func(workload string) figures { return r.Best[workload][chain] }
}

// inRound is the k-th round of each workload that counts.
func (r *report) inRound(k int, chain string) at {
	return func(workload string) figures {
		for i := range r.Runs {
			if one := &r.Runs[i]; one.Workload == workload && one.Chain == chain && one.Round == r.count[workload][k] {
				return one.Figures
			}
		}
		return figures{}
	}
}

// added is what a chain has more than the no-op server, by a cost that is made of
// those workloads.
func (r *report) added(chain string, cost func(at) float64, workloads ...string) added {
	a := added{Best: cost(r.best(chain)) - cost(r.best(chainNoop))}
	n := len(r.count[workloads[0]])
	for _, w := range workloads {
		n = min(n, len(r.count[w]))
	}
	for k := range n {
		a.Rounds = append(a.Rounds, cost(r.inRound(k, chain))-cost(r.inRound(k, chainNoop)))
	}
	slices.Sort(a.Rounds)
	return a
}

// chunk is the cost of one more chunk, from streams of two lengths.
func chunk(f at) chunkCost {
	short, long := f(streamName(shortest)), f(streamName(longest))
	of := func(a, b float64) float64 { return slope(point{shortest, a}, point{longest, b}) }
	return chunkCost{
		Envoy: of(short.Envoy, long.Envoy), Server: of(short.Server, long.Server), Both: of(short.Both, long.Both),
	}
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// print writes the tables.
func (r *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	m := r.Machine
	fmt.Fprintf(w, "\n%s, %d cores, Linux %s · %s, grpc-go %s · Envoy %s, one worker · weir %s\n", m.CPU, m.Cores, m.Kernel, m.Go, m.GRPC, m.Envoy, m.Weir)
	fmt.Fprintln(w, "The best of all rounds that count, for each figure. CPU time is in µs.")
	fmt.Fprintf(w, "%d of %d rounds count; in the others programs that have no part in this took more than %.0f %% of the machine, in these up to %.0f %%.\n",
		r.kept, r.made, 100*disturbed, 100*r.others)
	for _, part := range []func(io.Writer){r.requests, r.alone, r.rates, r.remarks, r.streams, r.chunks, r.refusedAndPooled} {
		part(t)
		if err := t.Flush(); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	}
	return r.headline(w)
}

// inOrder calls f for each chain that a workload has.
func (r *report) inOrder(workload string, f func(chain string, v figures)) {
	for _, chain := range chainNames() {
		if v, ok := r.Best[workload][chain]; ok {
			f(chain, v)
		}
	}
}

func (r *report) requests(w io.Writer) {
	fmt.Fprintf(w, "\nPlain request: prompt of %d B, %d tokens out, 8 connections\n", promptBytes, plainTokens)
	fmt.Fprintln(w, "\trequests/s\tp50 ms\tp99 ms\tEnvoy\tGo server\tEnvoy + Go\tsimulator\t")
	r.inOrder(plainly, func(chain string, v figures) {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", chain, v.PerSecond, v.P50, v.P99, v.Envoy, v.Server, v.Both, v.Simulator)
	})
}

func (r *report) alone(w io.Writer) {
	fmt.Fprintln(w, "\nThe same, one at a time")
	fmt.Fprintln(w, "\tp50 ms\tp99 ms\tEnvoy\tGo server\tEnvoy + Go\t")
	r.inOrder(single, func(chain string, v figures) {
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.1f\t%.1f\t%.1f\t\n", chain, v.P50, v.P99, v.Envoy, v.Server, v.Both)
	})
}

func (r *report) streams(w io.Writer) {
	fmt.Fprintf(w, "\nStream: %d tokens, one a chunk every %v, %d at a time\n", usual, pace, r.atOnce())
	fmt.Fprintln(w, "\tfirst byte p50 ms\tp99 ms\tEnvoy\tGo server\tEnvoy + Go\tsimulator\t÷ plain at the same time\tleast … most\t")
	r.inOrder(streamName(usual), func(chain string, v figures) {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t", chain, v.FirstP50, v.FirstP99, v.Envoy, v.Server, v.Both, v.Simulator)
		if chain == chainPlain {
			fmt.Fprintln(w, "\t\t")
			return
		}
		ratios := r.toPlain(streamName(usual), chain)
		fmt.Fprintf(w, "%.2f\t%.2f … %.2f\t\n", ratios.Median, ratios.Least, ratios.Most)
	})
}

// toPlain is the CPU time that a chain took to plain Envoy's at the same time, in the rounds
// that count.
func (r *report) toPlain(workload, chain string) spread {
	var ratios []float64
	for k := range r.count[workload] {
		v := r.inRound(k, chain)(workload)
		ratios = append(ratios, v.Both/v.Plain)
	}
	return newSpread(ratios)
}

func (r *report) atOnce() int {
	for _, w := range r.plan.workloads {
		if w.tokens == usual {
			return w.conns
		}
	}
	return 0
}

func (r *report) chunks(w io.Writer) {
	fmt.Fprintf(w, "\nOne more chunk: streams of %d tokens less those of %d, ÷ %d\n", longest, shortest, longest-shortest)
	fmt.Fprintln(w, "\tEnvoy\tGo server\tEnvoy + Go\t")
	for _, chain := range streaming() {
		c := r.Summary.Chunk[chain]
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t\n", chain, c.Envoy, c.Server, c.Both)
	}
}

func (r *report) refusedAndPooled(w io.Writer) {
	fmt.Fprintln(w, "\nRefused by weir, and served with a pool of keys, beside a plain request that the no-op server lets pass")
	fmt.Fprintln(w, "\trequests/s\tp50 ms\tp99 ms\tEnvoy\tGo server\tEnvoy + Go\t÷ noop\t")
	floor := r.Best[plainly][chainNoop]
	row := func(name string, v figures) {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%.2f\t\n", name, v.PerSecond, v.P50, v.P99, v.Envoy, v.Server, v.Both, v.Both/floor.Both)
	}
	row("401, wrong key", r.Best[unknown][chainWeir])
	row("429, over a limit", r.Best[limited][chainWeir])
	row("200, a pool of 5 keys", r.Best[pooled][chainWeir])
	row("noop, let pass", floor)
}

// headline says the figures that count.
func (r *report) headline(w io.Writer) error {
	s := r.Summary
	_, err := fmt.Fprintf(w, `
weir above the no-op server, CPU time of the Go process
  a plain request         %v   (target: at most %d)
  a chunk, seen by weir   %v   (target: at most %d)
  a stream of %d tokens  %v
Envoy and Go together
  weir ÷ noop             %7.2f a plain request
  noop ÷ plain            %7.2f a plain request, %.2f a stream
  weir ÷ plain            %7.2f a stream that is read inside of Envoy (goal: at most %.1f), %.2f one that weir sees piece by piece (goal: at most %.1f)
Latency that weir adds to plain Envoy, one request at a time
  p50 %.2f ms, p99 %.2f ms
`, s.AddedRequest, targetRequest, s.AddedChunk, targetChunk, usual, s.AddedStream,
		s.RequestWeir, s.RequestNoop, s.StreamNoop.Median, s.StreamWeir.Median, goalNative, s.StreamPiece.Median, goalPieces, s.AddedP50, s.AddedP99)
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// printRounds writes what each round of each load took, and its ratio to plain Envoy in
// the same round; of streams, at the same time.
func (r *report) printRounds(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i := range r.plan.workloads {
		name := r.plan.workloads[i].name
		fmt.Fprintf(t, "\n%s, CPU µs\n\tround\tEnvoy\tGo server\tEnvoy + Go\t÷ plain\tp50 ms\t\n", name)
		for _, chain := range r.plan.workloads[i].chains {
			for k := range r.count[name] {
				v, plain := r.inRound(k, chain)(name), r.inRound(k, chainPlain)(name).Both
				if v.Plain > 0 {
					plain = v.Plain
				}
				fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t\n", chain, r.count[name][k], v.Envoy, v.Server, v.Both, v.Both/plain, v.P50)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the rounds: %w", err)
	}
	return nil
}
