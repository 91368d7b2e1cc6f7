package pool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/weir-gateway/weir/config"
)

const (
	maxKeyLen = 1024
	maxWeight = 1000
)

// ReadFile reads a key file: a key a line, and after it, if wanted, a label and a
// weight:
//
//	# blank lines and comments are passed over
//	sk-first
//	sk-second  billing-b             # labels are for people; key- and a part of the ID, if there is none
//	sk-third   billing-c  weight=3   # three times as often, under the strategy weighted
//
// The error holds a [*FileError] for every problem. It shows no more of a secret than
// its last four characters.
func ReadFile(path string) ([]Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read upstream keys: %w", err)
	}
	return parse(path, text)
}

func parse(path string, text []byte) ([]Key, error) {
	f := keyFile{path: path, secrets: map[config.Secret]int{}, labels: map[string]int{}}
	number := 0
	for line := range strings.Lines(string(bytes.TrimPrefix(text, []byte("\ufeff")))) {
		number++
		f.line(number, line)
	}
	switch {
	case len(f.problems) > 0:
		return nil, errors.Join(f.problems...)
	case len(f.keys) == 0:
		return nil, &FileError{Path: path, Problem: "holds no keys: want one a line"}
	}
	named(f.keys)
	return f.keys, nil
}

// FileError is what is wrong with a key file.
type FileError struct {
	Path    string
	Line    int // from 1; 0: it is not in one line
	Problem string
}

// Error begins with the place.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Problem)
}

// Place is where the first problem of an error of [ReadFile] is: the name of the file,
// without its folder, and the line if it is in one. It can be shown to anybody.
func Place(path string, err error) string {
	name := filepath.Base(path)
	if e := (*FileError)(nil); errors.As(err, &e) && e.Line > 0 {
		return name + ":" + strconv.Itoa(e.Line)
	}
	return name
}

// CheckMode tells, by an error, that others than its owner can read a key file,
// and what to do about it.
func CheckMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read upstream keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s holds secrets and can be read by others: chmod 600 %s", path, path)
	}
	return nil
}

// keyFile gathers what stands in one.
type keyFile struct {
	path     string
	keys     []Key
	secrets  map[config.Secret]int // the line of each
	labels   map[string]int
	problems []error
}

func (f *keyFile) addf(line int, format string, args ...any) {
	f.problems = append(f.problems, &FileError{f.path, line, fmt.Sprintf(format, args...)})
}

func (f *keyFile) line(number int, text string) {
	fields := strings.Fields(text)
	for i, field := range fields {
		if strings.HasPrefix(field, "#") {
			fields = fields[:i]
			break
		}
	}
	if len(fields) == 0 {
		return
	}
	k := Key{Secret: config.Secret(fields[0]), ID: KeyID(config.Secret(fields[0])), Weight: 1}
	before := len(f.problems)
	f.secret(number, k.Secret)
	f.rest(number, fields[1:], &k)
	if first, ok := f.labels[k.Label]; ok && k.Label != "" {
		f.addf(number, "label %q: line %d has it too", k.Label, first)
	} else {
		f.labels[k.Label] = number
	}
	if len(f.problems) == before {
		f.keys = append(f.keys, k)
	}
}

func (f *keyFile) secret(number int, s config.Secret) {
	first, twice := f.secrets[s]
	switch {
	case twice:
		f.addf(number, "key %s: line %d has it too", masked(s), first)
		return
	case len(s) > maxKeyLen:
		f.addf(number, "key: longer than %d characters", maxKeyLen)
	case !visible(string(s)):
		f.addf(number, "key: has characters that can not be sent in a header: want visible ASCII, in a UTF-8 file")
	case strings.ContainsAny(string(s[:1]), `"'`):
		f.addf(number, "key: want it without quotation marks")
	}
	f.secrets[s] = number
}

// masked shows the last four characters, of a secret long enough.
func masked(s config.Secret) string { return "…" + last4(s) }

func visible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

var labelForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,23}$`)

// rest reads what follows the key. It quotes nothing of it: a second key may stand
// where a label should.
func (f *keyFile) rest(number int, fields []string, k *Key) {
	if len(fields) > 0 && !strings.HasPrefix(fields[0], "weight=") {
		k.Label = fields[0]
		fields = fields[1:]
		if !labelForm.MatchString(k.Label) || strings.HasPrefix(k.Label, "sk-") || strings.HasPrefix(k.Label, "uk_") {
			f.addf(number, "label: want up to 24 letters, digits, dots, dashes or underscores, that do not look like a key")
			k.Label = ""
		}
	}
	if len(fields) > 0 && strings.HasPrefix(fields[0], "weight=") {
		n, err := strconv.Atoi(strings.TrimPrefix(fields[0], "weight="))
		if err != nil || n < 1 || n > maxWeight {
			f.addf(number, "weight: want a whole number from 1 to %d", maxWeight)
		}
		k.Weight = n
		fields = fields[1:]
	}
	if len(fields) > 0 {
		f.addf(number, "want KEY [LABEL] [weight=N] and nothing after it; comments begin with #")
	}
}
