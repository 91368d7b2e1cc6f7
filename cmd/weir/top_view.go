package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/protoprint"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// terminalSize is that of the terminal that w is, in characters; 0, 0 if it is none.
func terminalSize(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// view is a frame.
type view struct {
	where         string
	width, height int     // 0: as much as there is to show
	before, now   *sample // before may be nil; now is nil while nobody answers
	trouble       error
}

// rates are what happens in a second.
type rates struct {
	Requests float64 `json:"requests"`
	Good     float64 `json:"status_2xx"`
	Refused  float64 `json:"status_4xx"`
	Failed   float64 `json:"status_5xx"`
	Input    float64 `json:"input_tokens"`
	Output   float64 `json:"output_tokens"`
	Limited  float64 `json:"refused_by_limits"`
}

// rates are those since the last sample; since weir began where there is none, they are
// not known.
func (v *view) rates() (r rates, known bool) {
	if v.before == nil || v.now == nil || v.now.metrics.sum("http_requests_total") < v.before.metrics.sum("http_requests_total") { // begun again
		return r, false
	}
	seconds := v.now.at.Sub(v.before.at).Seconds()
	rate := func(name string, labels ...string) float64 {
		return max(0, v.now.metrics.sum(name, labels...)-v.before.metrics.sum(name, labels...)) / seconds
	}
	const requests, tokens = "http_requests_total", "token_usage_total"
	return rates{
		rate(requests), rate(requests, `status="2`), rate(requests, `status="4`), rate(requests, `status="5`),
		rate(tokens, `kind="prompt"`), rate(tokens, `kind="completion"`), rate("weir_limit_refusals_total"),
	}, true
}

// json is the frame for programs.
func (v *view) json() (string, error) {
	out := struct {
		Time      time.Time            `json:"time"`
		Rates     *rates               `json:"rates"` // a second; null in the first frame
		InFlight  int                  `json:"in_flight"`
		StoreAway bool                 `json:"store_away"` // Redis is not asked
		Pools     []admin.Pool         `json:"pools"`
		Limits    []gateway.LimitUsage `json:"limits"`
		Exchanges []json.RawMessage    `json:"exchanges"`
	}{Time: v.now.at.UTC(), InFlight: len(v.now.running), StoreAway: v.now.away(), Pools: v.now.pools, Limits: v.now.limits.Limits, Exchanges: []json.RawMessage{}}
	if r, known := v.rates(); known {
		out.Rates = &r
	}
	for _, x := range v.now.running {
		text, err := protoprint.JSON(x, false)
		if err != nil {
			return "", fmt.Errorf("print a frame: %w", err)
		}
		out.Exchanges = append(out.Exchanges, text)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("print a frame: %w", err)
	}
	return string(text), nil
}

// lines are the frame for people.
func (v *view) lines() []string {
	if v.now == nil {
		v.now = v.before
	}
	all := append(v.head(), "")
	parts := [][]string{v.upstreams(), v.limits(), v.running()}
	// Requests in flight get what room the others leave.
	for i, part := range parts {
		if v.height > 0 {
			room := v.height - len(all)
			if i < len(parts)-1 {
				room /= len(parts) - i
			}
			part = cut(part, room-1)
		}
		if len(part) > 0 {
			all = append(append(all, part...), "")
		}
	}
	for len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	if v.height > 0 {
		all = all[:min(len(all), v.height)]
	}
	for i, line := range all {
		all[i] = clip(line, v.width)
	}
	return all
}

// cut is a table of which so many lines are shown.
func cut(lines []string, room int) []string {
	if len(lines) <= room {
		return lines
	}
	if room < 2 {
		return nil
	}
	return append(slices.Clone(lines[:room-1]), fmt.Sprintf("… and %d more", len(lines)-room+1))
}

// clip is a line as far as there is room for it, and nothing in it that would steer a
// terminal.
func clip(line string, width int) string {
	line = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, line)
	if width == 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(0, width-1)]) + "…"
}

func (v *view) head() []string {
	m := v.now.metrics
	lines := []string{fmt.Sprintf("weir at %s   %s   %d in flight", v.where, v.now.at.Format(time.TimeOnly), len(v.now.running))}
	if v.trouble != nil {
		lines = append(lines, "NO ANSWER: "+v.trouble.Error())
	}
	if r, known := v.rates(); known {
		lines = append(lines,
			fmt.Sprintf("requests %s/s: %s good, %s refused (%s by limits), %s failed", short(r.Requests), short(r.Good), short(r.Refused), short(r.Limited), short(r.Failed)),
			fmt.Sprintf("tokens   %s/s in, %s/s out", short(r.Input), short(r.Output)))
	} else {
		lines = append(lines, fmt.Sprintf("requests %s since its start", short(m.sum("http_requests_total"))),
			fmt.Sprintf("tokens   %s in, %s out", short(m.sum("token_usage_total", `kind="prompt"`)), short(m.sum("token_usage_total", `kind="completion"`))))
	}
	for _, stale := range []struct{ metric, says string }{{"weir_keys_stale", "KEY FILES"}, {"weir_config_stale", "WEIR.YAML"}} {
		if m.sum(stale.metric) > 0 {
			lines = append(lines, stale.says+" NOT TAKEN: the last good state is in force; the log says what is wrong")
		}
	}
	for _, p := range v.now.pools {
		if p.Stale != "" {
			lines = append(lines, "KEY FILE OF "+p.Upstream+" NOT TAKEN: "+strings.ReplaceAll(p.Stale, "\n", "; "))
		}
	}
	if v.now.away() {
		lines = append(lines, fmt.Sprintf("REDIS IS AWAY: limits do what their on_store_failure says; %s exchanges are owed to it", short(m.sum("weir_store_owed_exchanges"))))
	}
	return lines
}

// away tells whether the limit store is.
func (s *sample) away() bool { return s.metrics.sum("weir_store_away") > 0 }

// short is a number in few characters.
func short(n float64) string {
	const k, digits = 1000, 4 // with the point
	for _, unit := range []string{"", "k", "M"} {
		if n < k {
			text := strconv.FormatFloat(n, 'f', max(0, digits-len(strconv.Itoa(int(n)))-1), 64)
			if strings.Contains(text, ".") {
				text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
			}
			return text + unit
		}
		n /= k
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + "G"
}

// upstreams are a line each, and one for each key that is not as it should be.
func (v *view) upstreams() []string {
	t := table{left: 3, width: v.width, head: []string{"UPSTREAM", "STATE", "KEYS", "IN FLIGHT", "REQUESTS", "GOOD", "TOKENS"}}
	for _, p := range v.now.pools {
		state, keys := upstreamState(&p), "-"
		if p.Status != upstream.StatusOK {
			state = strings.ToUpper(state)
		}
		row := []string{p.Upstream, state, keys, "-", "-", "-", "-"}
		if len(p.Keys) > 0 {
			row = v.poolRow(&p, state)
		}
		t.rows = append(t.rows, row)
		for _, k := range p.Keys {
			if k.State != pool.Healthy {
				t.rows = append(t.rows, []string{"  " + k.Label, k.State.String(), strings.ReplaceAll(string(k.Why), "_", " "), strconv.Itoa(k.InFlight), short(float64(k.Requests)), goodShare(k.Successes, k.Ended()), short(float64(k.Tokens))})
			}
		}
	}
	return t.text()
}

func (v *view) poolRow(p *admin.Pool, state string) []string {
	var running, requests, tokens float64
	var good, ended int64
	for _, k := range p.Keys {
		running, requests, tokens = running+float64(k.InFlight), requests+float64(k.Requests), tokens+float64(k.Tokens)
		good, ended = good+k.Successes, ended+k.Ended()
	}
	return []string{p.Upstream, state, fmt.Sprintf("%d of %d usable", p.Usable, len(p.Keys)), short(running), short(requests), goodShare(good, ended), short(tokens)}
}

// goodShare is what part of the attempts that ended went well.
func goodShare(good, ended int64) string {
	if ended == 0 {
		return "-"
	}
	return percent(float64(good) / float64(ended))
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + " %" }

// limits are those that are used, the fullest first.
func (v *view) limits() []string {
	const most = 10
	list := slices.DeleteFunc(slices.Clone(v.now.limits.Limits), func(u gateway.LimitUsage) bool { return u.Used == 0 || u.Max == 0 })
	share := func(u *gateway.LimitUsage) float64 { return float64(u.Used) / float64(u.Max) }
	slices.SortStableFunc(list, func(a, b gateway.LimitUsage) int { return cmp.Compare(share(&b), share(&a)) })
	if len(list) == 0 {
		return nil
	}
	t := table{left: 4, width: v.width, head: []string{"LIMIT", "COUNTED FOR", "UNIT", "", "USED", "OF", "FREE IN"}}
	for _, u := range list[:min(most, len(list))] {
		name, free := u.Limit, "-"
		if u.Shadow {
			name += " (shadow)"
		}
		if u.ResetMS > 0 {
			free = (time.Duration(u.ResetMS) * time.Millisecond).Round(time.Second).String()
		}
		t.rows = append(t.rows, []string{name, u.Scope, u.Unit, bar(share(&u)), short(float64(u.Used)), short(float64(u.Max)), free})
	}
	return t.text()
}

// bar draws a share.
func bar(share float64) string {
	const width = 10
	full := min(width, int(share*width+.5))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// running are the requests in flight, the oldest first.
func (v *view) running() []string {
	if len(v.now.running) == 0 {
		return nil
	}
	t := table{left: 6, width: v.width, head: []string{"REQUEST", "KEY", "USER", "MODEL", "UPSTREAM", "PHASE", "RESERVED", "FOR"}}
	for _, x := range v.now.running {
		t.rows = append(t.rows, []string{
			cmp.Or(x.GetRequestId(), x.GetId()), x.GetKey(), cmp.Or(x.GetUser(), "-"), x.GetModel(), x.GetUpstream(), admin.PhaseWord(x),
			short(float64(x.GetReservedTokens())), v.now.at.Sub(x.GetStarted().AsTime()).Round(100 * time.Millisecond).String(),
		})
	}
	return t.text()
}
