package tokens

import (
	"bytes"
	"strings"
	"testing"
)

func features(text string) *Features {
	f := &Features{}
	f.Add([]byte(text))
	return f
}

// The truth beside each text was counted with the o200k vocabulary.
func TestEstimateIsNear(t *testing.T) {
	tests := []struct {
		name, text string
		truth      int64
	}{
		{"english", "The quick brown fox jumps over the lazy dog and runs away from the angry farmer.", 17},
		{"code", `func (s *Store) Settle(ctx context.Context, id string) error {\n\treturn s.close(id)\n}`, 23},
		{"json", `{\"name\": \"weir\", \"port\": 8080, \"debug\": true}`, 19},
		{"numbers", "3.14159 2.71828 1000000", 13},
		{"german", "Die Würde des Menschen ist unantastbar. Sie zu achten ist Verpflichtung aller staatlichen Gewalt.", 22},
		{"chinese", "人人生而自由,在尊严和权利上一律平等。", 16},
		{"russian", "Все люди рождаются свободными и равными в своем достоинстве и правах.", 17},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := features(tt.text).Estimate()
			if got < tt.truth*6/10 || got > tt.truth*16/10 {
				t.Errorf("estimate %d, truth %d: want within 0.6 to 1.6 of it", got, tt.truth)
			}
		})
	}
}

func TestPiecesCountAsTheWhole(t *testing.T) {
	text := `Hello wonderful  World, fooBar 12345 \n\n \u00e9 Würde 人人 🙂 --- "quoted\" text`
	want := features(text).Estimate()
	for i := range len(text) {
		f := features(text[:i])
		f.Add([]byte(text[i:]))
		if got := f.Estimate(); got != want {
			t.Fatalf("cut at byte %d: %d tokens, in one piece %d", i, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	if n := features("").Estimate(); n != 0 {
		t.Errorf("no text: %d tokens, want 0", n)
	}
	for _, text := range []string{"a", " ", "\x80\x80", `\`, `\u00`, strings.Repeat("é", 100)} {
		if n := features(text).Estimate(); n < 1 || n > int64(len(text)) {
			t.Errorf("%q: %d tokens, want 1 to %d", text, n, len(text))
		}
	}
}

func TestPrompt(t *testing.T) {
	chat := Prompt{Text: *features("Hello there"), Messages: 2, Parts: 1}
	if got, want := chat.Estimate(), int64(2+2*perMessage+perAnswer+perPart); got != want {
		t.Errorf("chat: %d tokens, want %d", got, want)
	}
	ids := Prompt{TokenIDs: 17}
	if got := ids.Estimate(); got != 17 {
		t.Errorf("token ids: %d tokens, want 17", got)
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	text := []byte(strings.Repeat("Some words, 123 and \\n more. ", 100))
	f := &Features{}
	if n := testing.AllocsPerRun(100, func() { f.Add(text) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	text := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, 123 times. "), 1000)
	b.SetBytes(int64(len(text)))
	f := &Features{}
	for b.Loop() {
		f.Add(text)
	}
}
