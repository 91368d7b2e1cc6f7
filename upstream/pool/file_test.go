package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/config"
)

func writeKeys(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFile(t *testing.T) {
	key := func(secret config.Secret, label string, weight int) Key {
		if label == "" {
			label = "key-" + KeyID(secret)[3:9]
		}
		return Key{ID: KeyID(secret), Label: label, Secret: secret, Weight: weight}
	}
	for name, c := range map[string]struct {
		text string
		want []Key
	}{
		"plain":                {"sk-one\nsk-two\n", []Key{key("sk-one", "", 1), key("sk-two", "", 1)}},
		"no end of line":       {"sk-one", []Key{key("sk-one", "", 1)}},
		"comments and blanks":  {"# ours\n\n  # theirs\n\t\nsk-one\n", []Key{key("sk-one", "", 1)}},
		"comment after":        {"sk-one # old\nsk-two b #x\n", []Key{key("sk-one", "", 1), key("sk-two", "b", 1)}},
		"# in a key":           {"sk#one\n", []Key{key("sk#one", "", 1)}},
		"label and weight":     {"sk-one  team.a_1 \t weight=3\n", []Key{key("sk-one", "team.a_1", 3)}},
		"weight alone":         {"sk-one weight=1000\n", []Key{key("sk-one", "", 1000)}},
		"CRLF and a BOM":       {"\ufeffsk-one a\r\n\r\nsk-two\r\n", []Key{key("sk-one", "a", 1), key("sk-two", "", 1)}},
		"spaces before a key":  {"   sk-one\n", []Key{key("sk-one", "", 1)}},
		"keys of other shapes": {"gsk_a\n0123456789abcdef\n", []Key{key("gsk_a", "", 1), key("0123456789abcdef", "", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadFile(writeKeys(t, c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadFileProblems(t *testing.T) {
	const good = "sk-canary-00000000001\n"
	for name, c := range map[string]struct {
		text string
		want []string // each on a line of its own
	}{
		"empty":               {"", []string{": holds no keys"}},
		"comments only":       {"# nothing\n\n", []string{": holds no keys"}},
		"the same key":        {good + "\n" + good, []string{":3: key …0001: line 1 has it too"}},
		"the same short key":  {"canary\ncanary\n", []string{":2: key …: line 1 has it too"}},
		"the same label":      {"canary-1 a\ncanary-2\ncanary-3 a\n", []string{`:3: label "a": line 1 has it too`}},
		"two keys on a line":  {"sk-canary-1 sk-canary-2\n", []string{":1: label: want up to 24"}},
		"long label":          {"canary-1 0123456789canary0123456789\n", []string{":1: label: want up to 24"}},
		"label like an ID":    {"canary-1 uk_canary\n", []string{":1: label: want up to 24"}},
		"weight":              {"canary-1 weight=0\ncanary-2 weight=canary\ncanary-3 weight=1001", []string{":1: weight: want", ":2: weight: want", ":3: weight: want"}},
		"more":                {"canary-1 a weight=1 canary\n", []string{":1: want KEY [LABEL] [weight=N] and nothing after it"}},
		"weight before label": {"canary-1 weight=1 a\n", []string{":1: want KEY [LABEL] [weight=N] and nothing after it"}},
		"not ASCII":           {"canäry\n", []string{":1: key: has characters"}},
		"UTF-16":              {"\xff\xfes\x00k\x00", []string{":1: key: has characters"}},
		"quoted":              {"\"canary\"\n", []string{":1: key: want it without quotation marks"}},
		"too long":            {strings.Repeat("canary", 200), []string{":1: key: longer than 1024"}},
		"several on one line": {"\"canary\" /canary weight=x y\n" + good, []string{":1: key: want it without", ":1: label:", ":1: weight:", ":1: want KEY"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeKeys(t, c.text)
			keys, err := ReadFile(path)
			if err == nil || keys != nil {
				t.Fatalf("ReadFile = %v, %v; want an error alone", keys, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("error:\n%v\nwant %d lines", err, len(c.want))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], path+want) {
					t.Errorf("line %d of the error = %q, want %q", i, lines[i], want)
				}
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "read upstream keys: ") {
		t.Errorf("error of a missing file: %v", err)
	}
}

func TestCheckMode(t *testing.T) {
	path := writeKeys(t, "sk-one\n")
	if err := CheckMode(path); err != nil {
		t.Errorf("CheckMode of 0600: %v, want nil", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := CheckMode(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("CheckMode of %o: %v, want what to do", mode, err)
		}
	}
	if err := CheckMode(path + ".none"); err == nil {
		t.Error("CheckMode of a missing file = nil, want an error")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "sk-one a weight=3 # x\r\n", "\ufeffa\na\n", "\"q\" sk-x weight= 1 2", "\x00", "a b\na b\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parse("keys.txt", text)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and error %v, want one of both", len(keys), err)
		}
		labels := map[string]bool{}
		for _, k := range keys {
			if !visible(string(k.Secret)) || k.Secret == "" || !labelForm.MatchString(k.Label) || labels[k.Label] || k.Weight < 1 || k.ID != KeyID(k.Secret) {
				t.Errorf("key %+v is not as keys are", k)
			}
			labels[k.Label] = true
		}
		for line := range strings.Lines(string(text)) {
			secret, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if err != nil && len(secret) > 24 && !strings.HasPrefix(secret, "#") && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a line's beginning: %v", err)
			}
		}
	})
}

// Labels that nobody gave follow their secret, wherever it stands, and hold nothing of it.
func TestLabelsFollowSecrets(t *testing.T) {
	labels := func(text string) map[config.Secret]string {
		t.Helper()
		keys, err := ReadFile(writeKeys(t, text))
		if err != nil {
			t.Fatal(err)
		}
		all := map[config.Secret]string{}
		for _, k := range keys {
			all[k.Secret] = k.Label
			if strings.Contains(k.Secret.Reveal(), strings.TrimPrefix(k.Label, "key-")) {
				t.Errorf("the label %q is a part of %q", k.Label, k.Secret.Reveal())
			}
		}
		return all
	}
	before := labels("sk-one\nsk-two\nsk-three\n")
	after := labels("# fewer, in another order\nsk-three\nsk-two\n")
	for secret, label := range after {
		if before[secret] != label {
			t.Errorf("%s was %q before", label, before[secret])
		}
	}
	if len(after) != 2 {
		t.Errorf("labels %v, want two", after)
	}
}

// A short label that two would have is nobody's.
func TestLabelsThatCollide(t *testing.T) {
	short := func(s config.Secret) string { return "key-" + KeyID(s)[3:9] }
	whole := func(s config.Secret) string { return "key-" + KeyID(s)[3:] }
	seen := map[string]config.Secret{}
	var a, b config.Secret
	for i := 0; b == ""; i++ { // of 2^24 labels; some thousand tries find two that are one
		s := config.Secret(fmt.Sprintf("sk-%d", i))
		if other, ok := seen[short(s)]; ok {
			a, b = other, s
		}
		seen[short(s)] = s
	}
	for name, c := range map[string]struct {
		keys []Key
		want []string
	}{
		"with each other":      {[]Key{{Secret: a}, {Secret: "c"}, {Secret: b}}, []string{whole(a), short("c"), whole(b)}},
		"with one of its own":  {[]Key{{Secret: "c", Label: short(a)}, {Secret: a}}, []string{short(a), whole(a)}},
		"with none that shows": {[]Key{{Secret: a, Label: "x"}, {Secret: b}}, []string{"x", short(b)}},
	} {
		named(c.keys)
		var got []string
		for _, k := range c.keys {
			got = append(got, k.Label)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", name, diff)
		}
	}
}

// The place of a problem can be shown to anybody.
func TestPlace(t *testing.T) {
	for text, want := range map[string]string{
		"sk-one\n\"canary\"\nsk-two a b\n": "keys.txt:2",
		"":                                 "keys.txt",
	} {
		path := writeKeys(t, text)
		_, err := ReadFile(path)
		if got := Place(path, err); got != want || err == nil {
			t.Errorf("%q: place %q of %v, want %q", text, got, err, want)
		}
	}
	gone := filepath.Join(t.TempDir(), "keys.txt")
	if _, err := ReadFile(gone); Place(gone, err) != "keys.txt" || err == nil {
		t.Errorf("no file: %q of %v", Place(gone, err), err)
	}
}
