package simulator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	tests := map[string][]string{
		"":                       nil,
		" \n":                    nil,
		"Hello there, model!":    {"Hello", " there", ",", " model", "!"},
		"  a\n\tb  ":             {"  a", "\n\tb  "},
		"über-groß… 42_x “ok”":   {"über", "-", "groß", "…", " 42_x", " “", "ok", "”"},
		"he said \"no\\yes\" ok": {"he", " said", ` "`, "no", `\`, "yes", `"`, " ok"},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			got := split(text)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := countTokens(text); n != int64(len(want)) {
				t.Errorf("countTokens is %d, want %d", n, len(want))
			}
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("Hello there, \u00a0model! \xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		tokens := split(text)
		if joined := strings.Join(tokens, ""); joined != text && strings.TrimSpace(text) != "" {
			t.Errorf("tokens of %q join to %q", text, joined)
		}
		if n := countTokens(text); n != int64(len(tokens)) {
			t.Errorf("countTokens of %q is %d, split has %d", text, n, len(tokens))
		}
	})
}

func TestDemoAnswerAdapts(t *testing.T) {
	tests := map[string]struct {
		prompt      prompt
		want, never string
	}{
		"nothing said": {prompt{}, "Hello! I am weir's built-in demo model", "You wrote"},
		"short":        {prompt{last: " Why is\nthe sky blue? ", turns: 1}, "Hello! You wrote “Why is the sky blue?”. I am", "message"},
		"long":         {prompt{last: "one two three four five six seven eight nine", turns: 1}, "“one two three four five six seven eight …”. I am", "nine"},
		"later turn":   {prompt{last: "and now?", turns: 3}, "“and now?”. That was message 3 of our conversation.", "?."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := demoAnswer(test.prompt)
			if !strings.Contains(got, test.want) || strings.Contains(got, test.never) {
				t.Errorf("got %q, want %q and not %q in it", got, test.want, test.never)
			}
			if !strings.Contains(got, "weir.yaml") {
				t.Errorf("%q does not tell where an upstream goes", got)
			}
		})
	}
}

func TestAppendEscaped(t *testing.T) {
	const text = "a\"b\\c\n\r\t\x00\x1f ü “x”"
	const want = `a\"b\\c\n\r\t\u0000\u001f ü “x”`
	if got := string(appendEscaped(nil, text)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
