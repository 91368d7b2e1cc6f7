package ledger

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Files are those that a ledger's file and its past are in, the oldest first: what
// weir has put aside, and what logrotate has, as usage.jsonl.1 or
// usage.jsonl-20261124; compressed or not.
func Files(file string) []string {
	base := regexp.QuoteMeta(filepath.Base(file))
	numbered := siblings(file, `^`+base+`\.\d+(\.gz)?$`)
	slices.SortStableFunc(numbered, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
	dated := siblings(file, `^`+base+`-\d{8}([-.]?\d+)?(\.gz)?$`)
	all := slices.Concat(numbered, dated, asideFiles(file))
	if exists(file) {
		all = append(all, file)
	}
	return all
}

// number is the number that a name ends in.
func number(name string) int {
	name = strings.TrimSuffix(name, ".gz")
	n, _ := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:])
	return n
}
