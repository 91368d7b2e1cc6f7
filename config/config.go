package config

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Defaults of what weir.yaml leaves out.
const (
	DefaultListen          = "0.0.0.0:8080"
	DefaultConnectTimeout  = 2 * time.Second
	DefaultIdleTimeout     = 5 * time.Minute
	DefaultMaxChoices      = 128 // as OpenAI has it
	DefaultMaxLogprobs     = 20  // likewise
	DefaultMaxRequestBytes = 8 << 20
	DefaultMaxConnections  = 50_000
	DefaultMaxHeapBytes    = 2 << 30
	DefaultModel           = "openai-gpt-oss-120b" // if it is served
	DefaultPoolKeys        = 3                     // that one request may try
	DefaultPoolTries       = 3
)

// NoModel is the default model of those who want none.
const NoModel = "none"

// Config is weir.yaml, read, checked and with defaults filled in. It is shared
// and never changed.
type Config struct {
	File          string // as given to Load; "" for the built-in demo
	Listen        string // host:port of Envoy's public listener
	RunDir        string // folder of the Unix sockets; "" when the file says nothing
	MetricsListen string // host:port of /metrics; "" is off
	Admin         Admin
	Origins       []string // of web pages that may call; "*" is every one
	Keys          Keys
	Upstreams     []Upstream
	Models        []Model
	DefaultModel  string // "" is DefaultModel if that is served, NoModel is off
	Plans         map[string][]Limit
	Limits        []Limit
	Ledger        Ledger
	Envoy         Envoy
	Requests      Bounds
	Redis         *Redis // nil: limits are counted in memory
	TLS           *TLS   // nil: plain HTTP

	message *configv1.Config // it was made from
	source  *problems        // knows where what stands
}

// MistakeIn is an error of the field at path, such as upstreams[0].key_file, with the
// place where it stands.
func (c *Config) MistakeIn(path, format string, args ...any) error {
	p := newProblems(c.File)
	if c.source != nil {
		p.root = c.source.root
	}
	p.addAt(p.find(path), path, fmt.Sprintf(format, args...))
	return p.err()
}

// Admin is where operators ask over the network.
type Admin struct {
	Listen    string // host:port; "" is off
	TokenFile string
	Dashboard bool
}

// Redis is the store that replicas share.
type Redis struct {
	URL          Secret // it may hold a password
	PasswordFile string
	CAFile       string        // "" is the system's bundle
	Timeout      time.Duration // longest silence that a decision waits through; 0 is the default
}

// Keys says where client keys come from.
type Keys struct {
	Files      []string // absolute or relative to the working folder
	PepperFile string
}

// Upstream is one OpenAI-compatible server.
type Upstream struct {
	Name    string
	URL     *url.URL // http or https, path without trailing slash
	Key     Secret   // "" when the server asks for none
	KeyFile string
	Pool    *Pool // nil: one key at most
	Offer   Offer
	CAFile  string // "" is the system's bundle

	Metering  Metering
	CacheSalt Salt
	NeverAsk  bool // streams must not be asked for their usage

	// Timeouts.
	Connect   time.Duration
	Idle      time.Duration // in the middle of an answer
	FirstByte time.Duration // of a streamed answer
	Total     time.Duration // 0 is without end
}

// Bounds say what clients may ask for.
type Bounds struct {
	MaxChoices  int64    // n and best_of
	MaxLogprobs int64    // alternatives of each token
	Allow       []string // members that only engines know; see openai.Extensions
}

// Salt says whose prompts are kept apart from others' in an engine's cache.
type Salt uint8

// Whose they are.
const (
	SaltNone Salt = iota // nobody's
	SaltKey
	SaltUser
	SaltTeam
)

// Metering says where event streams are read.
type Metering uint8

// Where they are.
const (
	MeteringAuto     Metering = iota // inside of Envoy, once it is known how long tokens are on the wire
	MeteringNative                   // inside of Envoy
	MeteringStreamed                 // by weir, piece by piece
)

// Ledger is where usage is written down.
type Ledger struct {
	File     string // "" is off, "-" the standard output
	MaxBytes int64  // of the file, before it is put aside; 0 is no limit
	Keep     int    // files that were put aside; 0 keeps all
}

// Offer says which models an upstream brings with it.
type Offer uint8

// What upstreams offer.
const (
	Listed    Offer = iota // those of the configuration that name it
	Discover               // also those that it lists itself
	Catalogue              // also those of the built-in catalogue
)

// Pool is a set of credentials of one upstream.
type Pool struct {
	File     string // "" has the keys in Keys
	Keys     []PoolKey
	Strategy Strategy
	MaxKeys  int // that one request may try
	Tries    int // of one request, in all
}

// PoolKey is one credential of a pool.
type PoolKey struct {
	Key    Secret
	Label  string // "" has one made
	Weight int    // 0 is 1
}

// Strategy chooses among the usable keys of a pool.
type Strategy uint8

// The strategies.
const (
	RoundRobin Strategy = iota
	LeastInFlight
	Weighted
)

// Model is a name that clients may use.
type Model struct {
	Name      string
	Aliases   []string
	Upstreams []string          // in order of preference
	ServedAs  map[string]string // upstream to what it calls the model
	Weights   map[string]uint32 // upstream to its share of the beginnings; empty: the first gets all
	Context   int64             // tokens; 0 is unknown
	MaxOutput int64             // tokens; 0 writes nothing
	Clamp     bool              // a limit that does not fit into the window is lowered, not refused
	Rewrite   bool              // answers name the model as the request did
}

// Envoy says how Envoy runs.
type Envoy struct {
	Concurrency     uint32 // worker threads; 0 is one per core
	MaxRequestBytes uint32
	MaxConnections  uint32 // of clients
	MaxHeapBytes    uint64 // at which Envoy is full
	TrustedProxies  uint32 // in front of Envoy
	AccessLog       string // path; Stdout is Envoy's standard output, "" is off
}

// Stdout is the access log on Envoy's standard output.
const Stdout = "stdout"

// TLS is the certificate of the public listener, in PEM files.
type TLS struct{ CertFile, KeyFile string }

// Unit is what a limit counts.
type Unit uint8

// The units.
const (
	Requests Unit = iota
	Tokens
	InputTokens
	OutputTokens
	Concurrency
)

// Scope is a dimension that a limit counts for.
type Scope uint8

// The scopes.
const (
	PerKey Scope = iota
	PerUser
	PerTeam
	PerPlan
	PerModel
	PerUpstream
	PerUpstreamKey
)

// Calendar is a window of the calendar.
type Calendar uint8

// The calendar windows.
const (
	NoCalendar Calendar = iota
	Day
	Week // from Monday
	Month
)

// Reserve is what a limit on tokens charges before a call.
type Reserve uint8

// The reservations.
const (
	ReserveMax Reserve = iota // the longest answer allowed
	ReserveLearned
	ReserveFixed // Limit.Fixed tokens of output
)

// OnStoreFailure is what a limit does while the store cannot be asked.
type OnStoreFailure uint8

// What limits do then.
const (
	FailLocal  OnStoreFailure = iota // count in memory, each replica its share
	FailOpen                         // admit, and count when the store is back
	FailClosed                       // refuse
)

// Limit is one rule: Amount of Unit in any Window, for each combination of Per.
type Limit struct {
	Name   string
	Per    []Scope // empty: the whole site
	Unit   Unit
	Amount int64

	Window    time.Duration // 0 for Concurrency and calendar windows
	Calendar  Calendar
	Location  *time.Location // of a calendar window; nil is UTC
	Burst     int64          // 0: none
	Precise   bool           // finer buckets
	Shadow    bool           // never refuses
	Reserve   Reserve
	Fixed     int64 // of ReserveFixed, in tokens
	OnFailure OnStoreFailure
	WhenPlan  string // "": for keys of every plan
}

// Upstream returns the upstream of that name.
func (c *Config) Upstream(name string) (Upstream, bool) {
	for _, u := range c.Upstreams {
		if u.Name == name {
			return u, true
		}
	}
	return Upstream{}, false
}

// Attempted tells whether a request to that upstream may be one attempt of
// several, or needs to be told apart from others.
func (c *Config) Attempted(u Upstream) bool {
	if u.Pool != nil || c.limitsUpstreams() {
		return true
	}
	if len(c.Upstreams) > 1 && slices.ContainsFunc(c.Upstreams, func(u Upstream) bool { return u.Offer != Listed }) {
		return true // several may turn out to serve a model
	}
	return slices.ContainsFunc(c.Models, func(m Model) bool {
		return len(m.Upstreams) > 1 && slices.Contains(m.Upstreams, u.Name)
	})
}

// limitsUpstreams tells whether something is counted for upstreams.
func (c *Config) limitsUpstreams() bool {
	lists := [][]Limit{c.Limits}
	for _, plan := range c.Plans {
		lists = append(lists, plan)
	}
	for _, list := range lists {
		if slices.ContainsFunc(list, Limit.ForUpstreams) {
			return true
		}
	}
	return false
}

// ForUpstreams tells whether the limit counts for an upstream or a key of one.
func (l Limit) ForUpstreams() bool {
	return slices.Contains(l.Per, PerUpstream) || slices.Contains(l.Per, PerUpstreamKey)
}
