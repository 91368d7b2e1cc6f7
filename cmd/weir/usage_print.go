package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ledger/report"
)

// printUsage prints a table with a line for the sum of all.
func printUsage(w io.Writer, q report.Query, sums *report.Report) error {
	total := sums.Total()
	if total.Requests == 0 {
		_, err := fmt.Fprintln(w, "No requests.")
		return err
	}
	from, to := sums.Span()
	const minute = "2006-01-02 15:04"
	fmt.Fprintf(w, "Usage from %s to %s, %s\n\n", from.In(q.Zone).Format(minute), to.In(q.Zone).Format(minute), q.Zone)
	t := usageTable(q, sums, grouped)
	if t.width = terminalWidth(w); t.width > 0 && t.narrowest(readableWidth) > t.width {
		width := t.width
		t = usageTable(q, sums, abbreviated)
		t.width = width
	}
	return t.print(w)
}

// readableWidth is how much of names there should be, in characters, rather than all
// digits of numbers.
const readableWidth = 24

func usageTable(q report.Query, sums *report.Report, number func(int64) string) table {
	t := table{left: len(q.By)}
	for _, f := range q.By {
		t.head = append(t.head, strings.ToUpper(string(f)))
	}
	t.head = append(t.head, "REQUESTS", "REFUSED", "INPUT", "OUTPUT", "CACHED", "EXACT")
	for _, row := range sums.Rows() {
		cells := make([]string, len(q.By), len(t.head))
		for i, v := range row.Values {
			cells[i] = cmp.Or(v, "-")
		}
		t.rows = append(t.rows, append(cells, sumCells(&row.Sums, number)...))
	}
	total := sums.Total()
	t.foot = append(append([]string{"total"}, make([]string, len(q.By)-1)...), sumCells(&total, number)...)
	return t
}

func sumCells(s *report.Sums, number func(int64) string) []string {
	return []string{
		number(s.Requests), number(s.Refused), number(s.Input), number(s.Output), number(s.Cached), exactShare(s),
	}
}

// exactShare is the part of the tokens that upstreams have counted themselves.
func exactShare(s *report.Sums) string {
	all := s.Exact + s.Estimated
	if all == 0 {
		return "-"
	}
	share := 100 * float64(s.Exact) / float64(all)
	if s.Estimated > 0 {
		share = min(share, 99.9) // only what is exact is 100 %
	}
	return strconv.FormatFloat(share, 'f', 1, 64) + " %"
}

// grouped is a number with a comma before each three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// abbreviated is a number in thousands, millions or billions, with a decimal.
func abbreviated(n int64) string {
	if n < 100_000 {
		return grouped(n)
	}
	value, unit := float64(n)/1e3, "k"
	for _, larger := range []string{"M", "G", "T"} {
		if value < 999.95 {
			break
		}
		value, unit = value/1e3, larger
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + unit
}

func printUsageJSON(w io.Writer, q report.Query, sums *report.Report) error {
	type row struct {
		By map[report.Field]string `json:"by"`
		report.Sums
	}
	out := struct {
		From  *time.Time  `json:"from"` // of the first request; null without any
		To    *time.Time  `json:"to"`
		Rows  []row       `json:"rows"`
		Total report.Sums `json:"total"`
	}{Rows: []row{}, Total: sums.Total()}
	if from, to := sums.Span(); !from.IsZero() {
		out.From, out.To = &from, &to
	}
	for _, r := range sums.Rows() {
		by := map[report.Field]string{}
		for i, f := range q.By {
			by[f] = r.Values[i]
		}
		out.Rows = append(out.Rows, row{by, r.Sums})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func printUsageCSV(w io.Writer, q report.Query, sums *report.Report) error {
	out := csv.NewWriter(w)
	head := make([]string, len(q.By))
	for i, f := range q.By {
		head[i] = string(f)
	}
	_ = out.Write(append(head, "requests", "refused", "input", "output", "cached", "exact", "estimated")) // Error tells
	for _, r := range sums.Rows() {
		cells := append([]string{}, r.Values...)
		for _, n := range []int64{r.Requests, r.Refused, r.Input, r.Output, r.Cached, r.Exact, r.Estimated} {
			cells = append(cells, strconv.FormatInt(n, 10))
		}
		_ = out.Write(cells)
	}
	out.Flush()
	return out.Error()
}
