package main

import (
	"bufio"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// leastWidth is what is left of the widest names where a terminal is narrow, in
// characters.
const leastWidth = 12

// table is printed with its first columns to the left, and all others, which are
// numbers, to the right.
type table struct {
	left       int // columns
	width      int // that there is room for, in characters; 0 is any
	head, foot []string
	rows       [][]string
}

// terminalWidth is how wide the terminal is that w is, in characters; 0 if it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

func (t *table) print(w io.Writer) error {
	widths := t.widths()
	t.fit(widths)
	out := bufio.NewWriter(w)
	t.row(out, widths, t.head)
	for _, row := range t.rows {
		t.row(out, widths, row)
	}
	if len(t.rows) > 1 {
		t.row(out, widths, t.foot)
	}
	return out.Flush()
}

// text is the table as lines, without a foot.
func (t *table) text() []string {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	widths := t.widths()
	t.fit(widths)
	for _, row := range append([][]string{t.head}, t.rows...) {
		t.row(out, widths, row)
	}
	_ = out.Flush() // memory
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// widths are what the columns need, in characters.
func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head, t.foot}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// narrowest is how wide the table is if no name has more than most characters.
func (t *table) narrowest(most int) int {
	all := 2 * (len(t.head) - 1)
	for i, n := range t.widths() {
		if i < t.left {
			n = min(n, most)
		}
		all += n
	}
	return all
}

// fit makes the columns of names narrower, the widest first, until all have room.
func (t *table) fit(widths []int) {
	for all := t.narrowest(math.MaxInt); t.width > 0 && all > t.width; all-- {
		widest := 0
		for i := range t.left {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastWidth {
			return
		}
		widths[widest]--
	}
}

func (t *table) row(w *bufio.Writer, widths []int, cells []string) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString("  ")
		}
		cell = shortened(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i < t.left {
			line.WriteString(cell + pad)
		} else {
			line.WriteString(pad + cell)
		}
	}
	// A write to the buffer fails when Flush does.
	_, _ = w.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// shortened takes out of the middle of a name what is too much of it.
func shortened(name string, width int) string {
	r := []rune(name)
	if len(r) <= width {
		return name
	}
	head := width / 2
	return string(r[:head]) + "…" + string(r[len(r)-(width-head-1):])
}
