package main

import (
	"strings"
	"testing"
)

func TestTableFitsTheTerminal(t *testing.T) {
	for _, tt := range []struct {
		name  string
		width int
		want  string
	}{
		{"none", 0, `
KEY                 MODEL   INPUT
a-key-of-many-ends  model  12,345
b                   other       7
total                      12,352
`},
		{"narrow", 30, `
KEY              MODEL   INPUT
a-key-o…ny-ends  model  12,345
b                other       7
total                   12,352
`},
		{"too narrow", 10, `
KEY           MODEL   INPUT
a-key-…-ends  model  12,345
b             other       7
total                12,352
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := table{
				left: 2, width: tt.width, head: []string{"KEY", "MODEL", "INPUT"}, foot: []string{"total", "", "12,352"},
				rows: [][]string{{"a-key-of-many-ends", "model", "12,345"}, {"b", "other", "7"}},
			}
			var out strings.Builder
			if err := table.print(&out); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64][2]string{
		0: {"0", "0"}, 999: {"999", "999"}, 1000: {"1,000", "1,000"}, 99_999: {"99,999", "99,999"}, 100_000: {"100,000", "100.0k"},
		999_949: {"999,949", "999.9k"}, 999_950: {"999,950", "1.0M"}, 1_701_214_310: {"1,701,214,310", "1.7G"},
	} {
		if got := [2]string{grouped(n), abbreviated(n)}; got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
