// Package report sums usage ledgers, record by record: what is kept are the sums.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ledger"
)

// maxRows bounds the sums that are kept.
const maxRows = 500_000

// Field is what records are told apart by.
type Field string

// The fields. Those of time are in the query's time zone.
const (
	Key      Field = "key"
	User     Field = "user"
	Team     Field = "team"
	Plan     Field = "plan"
	Model    Field = "model" // as its upstream knows it; as it was asked for where none was found
	Upstream Field = "upstream"
	Endpoint Field = "endpoint"
	Outcome  Field = "outcome"
	Month    Field = "month"
	Day      Field = "day"
	Hour     Field = "hour"
)

// Fields are all that there are.
func Fields() []Field {
	return []Field{Key, User, Team, Plan, Model, Upstream, Endpoint, Outcome, Month, Day, Hour}
}

// ParseFields reads a list such as key,model,day.
func ParseFields(list string) (fields []Field, err error) {
	for name := range strings.SplitSeq(list, ",") {
		f := Field(strings.TrimSpace(name))
		switch {
		case !slices.Contains(Fields(), f):
			return nil, fmt.Errorf("%q is nothing to sum by, want some of %s", f, joined(Fields()))
		case slices.Contains(fields, f):
			return nil, fmt.Errorf("%q is given twice", f)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func joined(fields []Field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// Query says what to sum.
type Query struct {
	By     []Field
	Since  time.Time // included; zero is from the beginning
	Until  time.Time // not included; zero is to the end
	Keys   []string  // ids; none is all
	Models []string  // by either of their names; none is all
	Zone   *time.Location
}

// Sums are what records have in sum.
type Sums struct {
	Requests  int64 `json:"requests"` // refused ones included
	Refused   int64 `json:"refused"`
	Input     int64 `json:"input"`  // tokens
	Output    int64 `json:"output"` // tokens
	Cached    int64 `json:"cached"` // tokens, part of Input
	Exact     int64 `json:"exact"`  // tokens, both kinds, that the upstream counted
	Estimated int64 `json:"estimated"`
}

func (s *Sums) add(r *ledger.Record) {
	s.Requests++
	if r.Outcome == ledger.Refused {
		s.Refused++
	}
	s.Input += r.Tokens.Input
	s.Output += r.Tokens.Output
	s.Cached += r.Tokens.Cached
	switch r.Source {
	case ledger.Exact:
		s.Exact += r.Tokens.Input + r.Tokens.Output
	case ledger.Estimated:
		s.Estimated += r.Tokens.Input + r.Tokens.Output
	case ledger.Missing:
	}
}

// Row is a sum and what its records have in common.
type Row struct {
	Values []string // of the query's fields
	Sums
}

// Report sums records.
type Report struct {
	query Query
	rows  map[string]*Row
	total Sums
	from  time.Time
	to    time.Time
	key   []byte
}

// New returns an empty report.
func New(q Query) *Report {
	if q.Zone == nil {
		q.Zone = time.UTC
	}
	return &Report{query: q, rows: map[string]*Row{}}
}

// Add adds a record, if the query wants it. It fails when there are too many rows.
func (r *Report) Add(rec *ledger.Record) error {
	if !r.query.wants(rec) {
		return nil
	}
	r.key = r.key[:0]
	for _, f := range r.query.By {
		r.key = append(append(r.key, r.value(rec, f)...), 0)
	}
	row := r.rows[string(r.key)]
	if row == nil {
		if len(r.rows) == maxRows {
			return fmt.Errorf("there are more than %d rows: sum by less, or choose with --since, --until, --key or --model", maxRows)
		}
		key := string(r.key)
		row = &Row{Values: strings.Split(key, "\x00")[:len(r.query.By)]}
		r.rows[key] = row
	}
	row.add(rec)
	r.total.add(rec)
	if r.from.IsZero() || rec.Time.Before(r.from) {
		r.from = rec.Time
	}
	if rec.Time.After(r.to) {
		r.to = rec.Time
	}
	return nil
}

func (q *Query) wants(rec *ledger.Record) bool {
	return !rec.Time.Before(q.Since) && (q.Until.IsZero() || rec.Time.Before(q.Until)) &&
		(len(q.Keys) == 0 || slices.Contains(q.Keys, rec.KeyID)) &&
		(len(q.Models) == 0 || slices.Contains(q.Models, rec.Model) || slices.Contains(q.Models, rec.ServedModel))
}

func (r *Report) value(rec *ledger.Record, f Field) string {
	switch f {
	case Key:
		return rec.KeyID
	case User:
		return rec.User
	case Team:
		return rec.Team
	case Plan:
		return rec.Plan
	case Model:
		return cmp.Or(rec.ServedModel, rec.Model)
	case Upstream:
		return rec.Upstream
	case Endpoint:
		return rec.Endpoint
	case Outcome:
		return string(rec.Outcome)
	case Month:
		return rec.Time.In(r.query.Zone).Format("2006-01")
	case Day:
		return rec.Time.In(r.query.Zone).Format(time.DateOnly)
	case Hour:
		return rec.Time.In(r.query.Zone).Format("2006-01-02 15:00")
	}
	return ""
}

// Total is the sum of all rows.
func (r *Report) Total() Sums { return r.total }

// Span is when the first and the last record came; zero without any.
func (r *Report) Span() (from, to time.Time) { return r.from, r.to }

// Rows are the sums: by time where the first field is one, the largest first
// otherwise.
func (r *Report) Rows() []*Row {
	rows := make([]*Row, 0, len(r.rows))
	for _, row := range r.rows {
		rows = append(rows, row)
	}
	byTime := len(r.query.By) > 0 && slices.Contains([]Field{Month, Day, Hour}, r.query.By[0])
	slices.SortFunc(rows, func(a, b *Row) int {
		if byTime {
			if c := strings.Compare(a.Values[0], b.Values[0]); c != 0 {
				return c
			}
		}
		return cmp.Or(
			cmp.Compare(b.Input+b.Output, a.Input+a.Output),
			cmp.Compare(b.Requests, a.Requests),
			slices.Compare(a.Values, b.Values),
		)
	})
	return rows
}
