package config

import (
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// fromProto turns a message into a Config. What is not valid, and was reported,
// becomes the zero value.
func fromProto(file string, m *configv1.Config) *Config {
	dir := filepath.Dir(file)
	c := &Config{
		File:          file,
		Listen:        or(m.GetListen(), DefaultListen),
		RunDir:        within(dir, m.GetRunDir()),
		MetricsListen: m.GetMetrics().GetListen(),
		Keys:          Keys{PepperFile: within(dir, m.GetKeys().GetPepperFile())},
		Admin:         admin(dir, m.GetAdmin()),
		Origins:       m.GetCors().GetOrigins(),
		DefaultModel:  m.GetDefaultModel(),
		message:       m,
		Plans:         map[string][]Limit{},
		Limits:        Limits(m.GetLimits()),
		Ledger:        ledger(dir, m.GetLedger()),
		Envoy: Envoy{
			Concurrency:     m.GetEnvoy().GetConcurrency(),
			MaxRequestBytes: or(m.GetEnvoy().GetMaxRequestBytes(), DefaultMaxRequestBytes),
			MaxConnections:  or(m.GetEnvoy().GetMaxConnections(), DefaultMaxConnections),
			MaxHeapBytes:    or(m.GetEnvoy().GetMaxHeapBytes(), DefaultMaxHeapBytes),
			TrustedProxies:  m.GetEnvoy().GetTrustedProxies(),
			AccessLog:       accessLog(dir, m.GetEnvoy().GetAccessLog()),
		},
	}
	c.Requests = Bounds{
		MaxChoices:  or(m.GetRequests().GetMaxChoices(), DefaultMaxChoices),
		MaxLogprobs: or(m.GetRequests().GetMaxLogprobs(), DefaultMaxLogprobs),
		Allow:       m.GetRequests().GetAllow(),
	}
	if t := m.GetTls(); t != nil {
		c.TLS = &TLS{CertFile: within(dir, t.GetCertFile()), KeyFile: within(dir, t.GetKeyFile())}
	}
	if r := m.GetStore().GetRedis(); r != nil {
		c.Redis = &Redis{URL: Secret(r.GetUrl()), PasswordFile: within(dir, r.GetPasswordFile()), CAFile: within(dir, r.GetCaFile()), Timeout: duration(r.GetTimeout(), 0)}
	}
	for _, f := range m.GetKeys().GetFiles() {
		c.Keys.Files = append(c.Keys.Files, within(dir, f))
	}
	for _, u := range m.GetUpstreams() {
		c.Upstreams = append(c.Upstreams, upstream(dir, u))
	}
	for _, mo := range m.GetModels() {
		c.Models = append(c.Models, Model{
			Name: mo.GetName(), Aliases: mo.GetAliases(), Upstreams: mo.GetUpstreams(),
			ServedAs: mo.GetServedAs(), Weights: mo.GetWeights(), Rewrite: mo.GetRewriteResponse(),
			Context: mo.GetContext(), MaxOutput: mo.GetMaxOutput(), Clamp: mo.GetMaxTokens() == "clamp",
		})
	}
	for name, p := range m.GetPlans() {
		c.Plans[name] = Limits(p.GetLimits())
	}
	return c
}

// admin has the dashboard served unless it is told not to.
func admin(dir string, m *configv1.Admin) Admin {
	return Admin{
		Listen: m.GetListen(), TokenFile: within(dir, m.GetTokenFile()),
		Dashboard: m.GetListen() != "" && (m.Dashboard == nil || m.GetDashboard()),
	}
}

func ledger(dir string, m *configv1.Ledger) Ledger {
	l := Ledger{File: m.GetFile(), MaxBytes: int64(m.GetMaxBytes()), Keep: int(m.GetKeep())} //nolint:gosec // the schema bounds it
	if l.File != "-" {
		l.File = within(dir, l.File)
	}
	return l
}

func upstream(dir string, u *configv1.Upstream) Upstream {
	parsed, err := url.Parse(strings.TrimRight(u.GetUrl(), "/"))
	if err != nil {
		parsed = &url.URL{} // reported by check
	}
	t := u.GetTimeouts()
	out := Upstream{
		Name: u.GetName(), URL: parsed, Key: Secret(u.GetKey()), KeyFile: within(dir, u.GetKeyFile()),
		Pool: pool(dir, u.GetKeys()), Offer: offers[u.GetModels()], CAFile: within(dir, u.GetCaFile()),
		Metering: meterings[u.GetMetering()], CacheSalt: salts[u.GetCacheSalt()], NeverAsk: u.GetUsageRequest() == "never",
		Connect: duration(t.GetConnect(), DefaultConnectTimeout),
		Idle:    duration(t.GetIdle(), DefaultIdleTimeout),
		Total:   duration(t.GetTotal(), 0),
	}
	out.FirstByte = duration(t.GetFirstByte(), out.Idle)
	return out
}

var salts = map[string]Salt{"key": SaltKey, "user": SaltUser, "team": SaltTeam}

var meterings = map[string]Metering{"native": MeteringNative, "streamed": MeteringStreamed}

var offers = map[string]Offer{"discover": Discover, "catalogue": Catalogue}

var strategies = map[configv1.Strategy]Strategy{
	configv1.Strategy_round_robin: RoundRobin, configv1.Strategy_least_in_flight: LeastInFlight, configv1.Strategy_weighted: Weighted,
}

// pool is nil for an upstream without one.
func pool(dir string, m *configv1.UpstreamKeys) *Pool {
	if m == nil {
		return nil
	}
	p := &Pool{
		File: within(dir, m.GetFile()), Strategy: strategies[m.GetStrategy()],
		MaxKeys: int(or(m.GetRetry().GetKeys(), DefaultPoolKeys)), Tries: int(or(m.GetRetry().GetTries(), DefaultPoolTries)),
	}
	for _, k := range m.GetList() {
		p.Keys = append(p.Keys, PoolKey{Key: Secret(k.GetKey()), Label: k.GetLabel(), Weight: int(k.GetWeight())})
	}
	return p
}

// Limits turns messages into rules.
func Limits(list []*configv1.Limit) (out []Limit) {
	for _, l := range list {
		out = append(out, limit(l))
	}
	return out
}

func limit(l *configv1.Limit) Limit {
	out := Limit{
		Name: l.GetName(), Burst: l.GetBurst(), Precise: l.GetPrecision() != "", Shadow: l.GetShadow(),
		OnFailure: failures[l.GetOnStoreFailure()], WhenPlan: l.GetWhen().GetPlan(),
	}
	out.Reserve, out.Fixed = reserve(l.GetReserve())
	if l.GetTimezone() != "" {
		out.Location, _ = time.LoadLocation(l.GetTimezone()) // an unknown one is reported by check
	}
	for _, s := range l.GetPer() {
		out.Per = append(out.Per, scopes[s])
	}
	var text string
	switch {
	case l.GetConcurrency() > 0:
		out.Unit, out.Amount = Concurrency, l.GetConcurrency()
		return out
	case l.GetRequests() != "":
		out.Unit, text = Requests, l.GetRequests()
	case l.GetTokens() != "":
		out.Unit, text = Tokens, l.GetTokens()
	case l.GetInputTokens() != "":
		out.Unit, text = InputTokens, l.GetInputTokens()
	default:
		out.Unit, text = OutputTokens, l.GetOutputTokens()
	}
	out.Amount, out.Window, out.Calendar = rate(text)
	return out
}

var failures = map[configv1.OnStoreFailure]OnStoreFailure{
	configv1.OnStoreFailure_open: FailOpen, configv1.OnStoreFailure_closed: FailClosed, configv1.OnStoreFailure_local: FailLocal,
}

// reserve reads max, learned or fixed:N.
func reserve(s string) (Reserve, int64) {
	if s == "learned" {
		return ReserveLearned, 0
	}
	if digits, ok := strings.CutPrefix(s, "fixed:"); ok {
		n, _ := strconv.ParseInt(digits, 10, 64) // the schema has checked it
		return ReserveFixed, n
	}
	return ReserveMax, 0
}

var scopes = map[configv1.Scope]Scope{
	configv1.Scope_key: PerKey, configv1.Scope_user: PerUser, configv1.Scope_team: PerTeam,
	configv1.Scope_plan: PerPlan, configv1.Scope_model: PerModel,
	configv1.Scope_upstream: PerUpstream, configv1.Scope_upstream_key: PerUpstreamKey,
}

var windows = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour}

var calendars = map[string]Calendar{"day": Day, "week": Week, "month": Month}

// rate reads 20/s, 100/10m or 5000/day, whose form the schema has checked.
func rate(s string) (amount int64, window time.Duration, calendar Calendar) {
	left, right, ok := strings.Cut(s, "/")
	if !ok || right == "" {
		return 0, 0, NoCalendar
	}
	amount, _ = strconv.ParseInt(left, 10, 64)
	if c, ok := calendars[right]; ok {
		return amount, 0, c
	}
	unit := windows[right[len(right)-1]]
	count, err := strconv.ParseInt(right[:len(right)-1], 10, 64)
	if err != nil {
		count = 1 // "20/s"
	}
	return amount, time.Duration(count) * unit, NoCalendar
}

func duration(s string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	return otherwise
}

// within resolves a path that stands in a file of that folder.
func accessLog(dir, to string) string {
	if to == Stdout {
		return to
	}
	return within(dir, to)
}

func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
