package ledger

import "time"

// Outcome is how an exchange ended.
type Outcome string

// The outcomes.
const (
	OK            Outcome = "ok"
	Refused       Outcome = "refused"        // by weir; no upstream was asked
	UpstreamError Outcome = "upstream_error" // the upstream failed before its answer began
	Aborted       Outcome = "aborted"        // the stream ended before the answer did
	Cut           Outcome = "cut"            // the answer ended before it was complete
)

// Source tells what the counts of an exchange are worth.
type Source string

// The sources.
const (
	Exact     Source = "exact"     // the upstream's own usage
	Estimated Source = "estimated" // from the text that was seen
	Missing   Source = "missing"   // nothing was generated, or nothing is known
)

// Tokens are counts of one exchange. Cached are part of Input, Reasoning of Output.
type Tokens struct {
	Input     int64 `json:"input"`
	Output    int64 `json:"output"`
	Cached    int64 `json:"cached"`
	Reasoning int64 `json:"reasoning"`
}

// Record is one line.
type Record struct {
	Time          time.Time `json:"time"` // of the decision's arrival, UTC
	RequestID     string    `json:"request_id"`
	KeyID         string    `json:"key_id"`
	User          string    `json:"user,omitempty"`
	Team          string    `json:"team,omitempty"`
	Plan          string    `json:"plan,omitempty"`
	Endpoint      string    `json:"endpoint"`
	Model         string    `json:"model,omitempty"`        // as the client named it
	ServedModel   string    `json:"served_model,omitempty"` // as the upstream knows it
	Upstream      string    `json:"upstream,omitempty"`
	UpstreamKeyID string    `json:"upstream_key_id,omitempty"` // of its pool
	Attempts      int       `json:"attempts,omitempty"`        // made for it, that failed ones included
	Stream        bool      `json:"stream"`
	Status        int       `json:"status"` // HTTP status that the client was sent; 0 if it left before
	Outcome       Outcome   `json:"outcome"`
	Tokens        Tokens    `json:"tokens"`
	Source        Source    `json:"tokens_source"`
	AudioSeconds  float64   `json:"audio_seconds,omitempty"` // as the upstream says
	EstimateInput int64     `json:"estimate_input"`          // tokens
	Reserved      int64     `json:"reserved"`                // tokens, input and output
	TTFT          float64   `json:"ttft_ms,omitempty"`
	Duration      float64   `json:"duration_ms"`
	Overhead      float64   `json:"overhead_ms"`     // spent in weir before the upstream
	Limit         string    `json:"limit,omitempty"` // the one that refused
}
