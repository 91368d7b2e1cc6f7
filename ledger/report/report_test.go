package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ledger"
)

func at(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

var records = []ledger.Record{
	{Time: at("2026-11-23 23:59:59"), KeyID: "a", Model: "alias", ServedModel: "m", Outcome: ledger.OK, Source: ledger.Exact, Tokens: ledger.Tokens{Input: 10, Output: 5, Cached: 4}},
	{Time: at("2026-11-24 00:00:00"), KeyID: "b", Model: "m", ServedModel: "m", Outcome: ledger.Aborted, Source: ledger.Estimated, Tokens: ledger.Tokens{Input: 20, Output: 1}},
	{Time: at("2026-11-24 01:30:00"), KeyID: "a", Model: "n", Outcome: ledger.Refused, Source: ledger.Missing},
	{Time: at("2026-11-24 02:00:00"), KeyID: "a", Model: "m", ServedModel: "m", Outcome: ledger.OK, Source: ledger.Exact, Tokens: ledger.Tokens{Input: 1, Output: 1}},
}

func TestReport(t *testing.T) {
	east := time.FixedZone("east", 3600)
	tests := []struct {
		name  string
		query Query
		want  []string // values, requests, refused, input, output, cached, exact, estimated
	}{
		{"by model, the largest first", Query{By: []Field{Model}}, []string{"[m] 3 0 31 7 4 17 21", "[n] 1 1 0 0 0 0 0"}},
		{"by key and model", Query{By: []Field{Key, Model}}, []string{"[b m] 1 0 20 1 0 0 21", "[a m] 2 0 11 6 4 17 0", "[a n] 1 1 0 0 0 0 0"}},
		{"by day, in order", Query{By: []Field{Day}}, []string{"[2026-11-23] 1 0 10 5 4 15 0", "[2026-11-24] 3 1 21 2 0 2 21"}},
		{"days of another zone", Query{By: []Field{Day}, Zone: east}, []string{"[2026-11-24] 4 1 31 7 4 17 21"}},
		{"by hour, of a key", Query{By: []Field{Hour}, Keys: []string{"a"}, Since: at("2026-11-24 00:00:00")}, []string{"[2026-11-24 01:00] 1 1 0 0 0 0 0", "[2026-11-24 02:00] 1 0 1 1 0 2 0"}},
		{"since and until", Query{By: []Field{Month}, Since: at("2026-11-24 00:00:00"), Until: at("2026-11-24 02:00:00")}, []string{"[2026-11] 2 1 20 1 0 0 21"}},
		{"a model by its alias", Query{By: []Field{Outcome}, Models: []string{"alias"}}, []string{"[ok] 1 0 10 5 4 15 0"}},
		{"what is not known", Query{By: []Field{User, Team, Plan, Upstream, Endpoint}}, []string{"[    ] 4 1 31 7 4 17 21"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := New(tt.query)
			for i := range records {
				if err := r.Add(&records[i]); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			var total Sums
			for _, row := range r.Rows() {
				s := row.Sums
				got = append(got, fmt.Sprint(row.Values, s.Requests, s.Refused, s.Input, s.Output, s.Cached, s.Exact, s.Estimated))
				total.Requests, total.Input = total.Requests+s.Requests, total.Input+s.Input
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if all := r.Total(); all.Requests != total.Requests || all.Input != total.Input {
				t.Errorf("total %+v, the rows' is %+v", all, total)
			}
		})
	}
}

func TestRowsAreBounded(t *testing.T) {
	r := New(Query{By: []Field{Key}})
	rec := records[0]
	var err error
	for i := 0; err == nil; i++ {
		if i > maxRows {
			t.Fatalf("%d rows are kept", i)
		}
		rec.KeyID = fmt.Sprint(i)
		err = r.Add(&rec)
	}
	if !strings.Contains(err.Error(), "sum by less") {
		t.Errorf("error %v", err)
	}
}

func TestParseFields(t *testing.T) {
	if got, err := ParseFields("key, day"); err != nil || len(got) != 2 || got[1] != Day {
		t.Errorf("fields %v, %v", got, err)
	}
	for list, want := range map[string]string{"": `"" is nothing to sum by`, "key,key": `"key" is given twice`, "size": "want some of key, user"} {
		if _, err := ParseFields(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", list, err, want)
		}
	}
}
