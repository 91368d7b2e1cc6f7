package tokens

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func features(text string) *Features {
	f := &Features{}
	f.Add([]byte(text))
	return f
}

func TestPiecesCountAsTheWhole(t *testing.T) {
	text := `Hello wonderful  World, fooBar XMLFile 12345 a1b \n\n \u00e9 \u4e2d \ud83d\ude00 Würde 人人、 かな 한글 🙂 --- "quoted\" \u003cb text`
	want := *features(text)
	for i := range len(text) {
		f := features(text[:i])
		f.Add([]byte(text[i:]))
		if diff := cmp.Diff(want, *f, cmp.AllowUnexported(Features{})); diff != "" {
			t.Fatalf("cut at byte %d (-whole +pieces):\n%s", i, diff)
		}
	}
}

// Some clients escape all that is not ASCII. It is the same text to a model.
func TestEscapedTextCountsAlike(t *testing.T) {
	tests := map[string]string{
		"Würde":     `W\u00fcrde`,
		"žluťoučký": `\u017elu\u0165ou\u010dk\u00fd`,
		"Ελλάδα":    `\u0395\u03bb\u03bb\u03ac\u03b4\u03b1`,
		"Привет":    `\u041f\u0440\u0438\u0432\u0435\u0442`,
		"שלום":      `\u05e9\u05dc\u05d5\u05dd`,
		"سلام":      `\u0633\u0644\u0627\u0645`,
		"नमस्ते":    `\u0928\u092e\u0938\u094d\u0924\u0947`,
		"สวัสดี":    `\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35`,
		"tiếng":     `ti\u1EBFng`,
		"“a” – b":   `\u201ca\u201d \u2013 b`,
		"かな、カナ":     `\u304b\u306a\u3001\u30ab\u30ca`,
		"中文\uff0c":  `\u4e2d\u6587\uff0c`,
		"한글":        `\ud55c\uae00`,
		"🙂!":        `\ud83d\ude42!`,
		"<b>":       `\u003cb\u003e`,
	}
	for plain, escaped := range tests {
		want, got := features(plain), features(escaped)
		want.counts[nothing], got.counts[nothing] = 0, 0
		if diff := cmp.Diff(want.counts, got.counts); diff != "" {
			t.Errorf("%s and %s (-plain +escaped):\n%s", plain, escaped, diff)
		}
	}
}

func TestFeatures(t *testing.T) {
	tests := []struct {
		text string
		want map[Feature]uint32
	}{
		{"the dog", map[Feature]uint32{Words: 2}},
		{"The dog", map[Feature]uint32{Titles: 1, Words: 1}},
		{"internationality", map[Feature]uint32{Words: 1, MiddleLetters: 4, LateLetters: 8}},
		{"camelCase", map[Feature]uint32{Words: 1, CaseChanges: 1, MiddleLetters: 1}},
		{"HTTP", map[Feature]uint32{Titles: 1, Capitals: 3}},
		{"sono molto", map[Feature]uint32{Words: 2, OpenEnds: 1, MiddleLetters: 1}},
		{"week", map[Feature]uint32{Words: 1, Foreign: 1}},
		{"12345", map[Feature]uint32{DigitGroups: 2, Digits: 3}},
		{" 12", map[Feature]uint32{SpacedDigits: 1, Digits: 1}},
		{"a1b", map[Feature]uint32{Words: 1, DigitGroups: 1, Switches: 1}},
		{"({", map[Feature]uint32{Signs: 1, MoreSigns: 1}},
		{`\"x`, map[Feature]uint32{Signs: 1, Words: 1}},
		{`a\n\n`, map[Feature]uint32{Words: 1, Newlines: 1, MoreNewlines: 1}},
		{"a    b", map[Feature]uint32{Words: 2, Indents: 1}},
		{`\\n`, map[Feature]uint32{Signs: 1, Words: 1}},
	}
	for _, tt := range tests {
		got := map[Feature]uint32{}
		for i, n := range features(tt.text).counts {
			if n > 0 && Feature(i) != nothing {
				got[Feature(i)] = n
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestBounds(t *testing.T) {
	var e Estimator
	if n := e.Completion("m", features("")); n != 0 {
		t.Errorf("no text: %d tokens, want 0", n)
	}
	if n := e.Prompt("m", &Prompt{}); n != 0 {
		t.Errorf("no prompt: %d tokens, want 0", n)
	}
	for _, text := range []string{"a", " ", "\x80\x80", `\`, `\u00`, `\u00zz`, strings.Repeat("é", 100)} {
		if n := e.Completion("m", features(text)); n < 1 || n > int64(len(text)) {
			t.Errorf("%q: %d tokens, want 1 to %d", text, n, len(text))
		}
	}
}

func TestPrompt(t *testing.T) {
	var e Estimator
	chat := Prompt{Text: *features("hello there"), Messages: 2, Tools: 1, Parts: 1}
	if got, want := e.Prompt("m", &chat), int64(3+2*4+3+8+perPart); got != want {
		t.Errorf("chat: %d tokens, want %d", got, want)
	}
	ids := Prompt{TokenIDs: 17}
	if got := e.Prompt("m", &ids); got != 17 {
		t.Errorf("token ids: %d tokens, want 17", got)
	}
}

func TestNothingAllocates(t *testing.T) {
	text := []byte(strings.Repeat(`Some words, 123 and \n more. \u00e9 `, 100))
	var e Estimator
	f, p := &Features{}, &Prompt{Messages: 3}
	f.Add(text)
	e.LearnCompletion("m", f, 1200)
	p.Text = *f
	e.LearnPrompt("m", p, 1200)
	for what, call := range map[string]func(){
		"Add":        func() { f.Add(text) },
		"Completion": func() { e.Completion("m", f) },
		"Prompt":     func() { e.Prompt("m", p) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations, want 0", what, n)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte(`Hello \ud83d\ude00 W\u00fcrde`), 9)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = min(max(cut, 0), len(text))
		whole, pieces := Features{}, Features{}
		whole.Add(text)
		pieces.Add(text[:cut])
		pieces.Add(text[cut:])
		if whole != pieces {
			t.Errorf("%q cut at %d: %+v, whole %+v", text, cut, pieces, whole)
		}
		var e Estimator
		if n := e.Completion("m", &whole); n < min(1, whole.bytes) || n > whole.bytes {
			t.Errorf("%q: %d tokens", text, n)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	for name, text := range map[string][]byte{
		"prose": bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, 123 times. "), 1000),
		"mix":   allTexts(b),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			f := &Features{}
			for b.Loop() {
				f.Add(text)
			}
		})
	}
}

func BenchmarkEstimate(b *testing.B) {
	var e Estimator
	p := &Prompt{Text: *features("hello there"), Messages: 2}
	for b.Loop() {
		e.Prompt("m", p)
	}
}

func BenchmarkLearn(b *testing.B) {
	var e Estimator
	p := &Prompt{Text: *features(strings.Repeat("hello there ", 50)), Messages: 2}
	for b.Loop() {
		e.LearnPrompt("m", p, 103)
	}
}
