package tokens

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// vocabularies are the tokenizers whose counts testdata/counts.jsonl has; see
// testdata/counts.mjs.
var vocabularies = []string{"o200k", "cl100k", "llama3", "mistral", "qwen3"}

// counted is a text and how many tokens it has.
type counted struct {
	kind   string
	raw    []byte // JSON-escaped
	counts map[string]int64
}

func readCounts(t testing.TB) (all []counted) {
	t.Helper()
	file, err := os.ReadFile("testdata/counts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(file) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			t.Fatal(err)
		}
		c := counted{counts: map[string]int64{}}
		c.kind = string(members["kind"])
		c.raw = bytes.Trim(members["text"], `"`)
		for _, v := range vocabularies {
			if c.counts[v], err = strconv.ParseInt(string(members[v]), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, c)
	}
	if len(all) < 250 {
		t.Fatalf("only %d texts", len(all))
	}
	return all
}

func allTexts(t testing.TB) (text []byte) {
	for _, c := range readCounts(t) {
		text = append(text, c.raw...)
	}
	return text
}

// What a chat costs in this test beside its text.
const (
	testMessage = 5
	testChat    = 11
)

// ask makes a chat of one to most texts of any kind, and its count.
func ask(random *rand.Rand, texts []counted, vocabulary string, most int) (p Prompt, count int64) {
	count = testChat
	for range 1 + random.IntN(most) {
		c := texts[random.IntN(len(texts))]
		p.Text.Add(c.raw)
		p.Messages++
		count += c.counts[vocabulary] + testMessage
	}
	return p, count
}

// off is the mean error of prompts, relative to their counts, and the error that 95
// of 100 do not exceed.
func off(e *Estimator, random *rand.Rand, texts []counted, vocabulary string, most int) (mean, p95 float64) {
	const n = 400
	errs := make([]float64, n)
	for i := range errs {
		p, count := ask(random, texts, vocabulary, most)
		errs[i] = math.Abs(float64(e.Prompt("m", &p)-count)) / float64(count)
		mean += errs[i] / n
	}
	slices.Sort(errs)
	return mean, errs[n*95/100]
}

// TestLearning has prompts of prose in 25 languages, code, JSON, logs, tables,
// base64 and more, mixed at random, counted by real tokenizers: after 50 of them the
// next ones are estimated within a tenth, on average.
func TestLearning(t *testing.T) {
	texts := readCounts(t)
	for _, most := range []int{1, 4} {
		for _, vocabulary := range vocabularies {
			t.Run(fmt.Sprintf("%s in 1 to %d texts", vocabulary, most), func(t *testing.T) {
				const runs = 5
				var before, after, p95 float64
				for seed := range uint64(runs) {
					random := rand.New(rand.NewPCG(seed, 7))
					var e Estimator
					mean, _ := off(&e, random, texts, vocabulary, most)
					before += mean / runs
					for range 50 {
						p, count := ask(random, texts, vocabulary, most)
						e.LearnPrompt("m", &p, count)
					}
					mean, tail := off(&e, random, texts, vocabulary, most)
					after, p95 = after+mean/runs, p95+tail/runs
				}
				t.Logf("mean error %.1f %% by the prior, %.1f %% after 50 requests, p95 %.1f %%", 100*before, 100*after, 100*p95)
				const bound = 0.1
				if after > bound {
					t.Errorf("mean error %.3f, want at most %.3f", after, bound)
				}
			})
		}
	}
}

// Half of the texts are learned from, and the other half are new.
func TestLearningIsNotByHeart(t *testing.T) {
	texts := readCounts(t)
	var known, fresh []counted
	for i, c := range texts {
		if i%2 == 0 {
			known = append(known, c)
		} else {
			fresh = append(fresh, c)
		}
	}
	for _, vocabulary := range vocabularies {
		random := rand.New(rand.NewPCG(1, 2))
		var e Estimator
		for range 50 {
			p, count := ask(random, known, vocabulary, 4)
			e.LearnPrompt("m", &p, count)
		}
		mean, p95 := off(&e, random, fresh, vocabulary, 4)
		t.Logf("%s: mean error %.1f %%, p95 %.1f %%", vocabulary, 100*mean, 100*p95)
		if mean > 0.1 {
			t.Errorf("%s: mean error %.3f of texts that were not learned from, want at most 0.1", vocabulary, mean)
		}
	}
}

// The model behind a name may change.
func TestLearningAdapts(t *testing.T) {
	texts := readCounts(t)
	random := rand.New(rand.NewPCG(3, 4))
	var e Estimator
	for _, vocabulary := range []string{"qwen3", "mistral", "o200k"} {
		for range 150 {
			p, count := ask(random, texts, vocabulary, 4)
			e.LearnPrompt("m", &p, count)
		}
		if mean, _ := off(&e, random, texts, vocabulary, 4); mean > 0.1 {
			t.Errorf("150 requests after a change to %s: mean error %.3f, want at most 0.1", vocabulary, mean)
		}
	}
}

// One in ten counts is nonsense.
func TestOutliersDoLittle(t *testing.T) {
	texts := readCounts(t)
	random := rand.New(rand.NewPCG(5, 6))
	var e Estimator
	for i := range 200 {
		p, count := ask(random, texts, "o200k", 4)
		if i%10 == 9 {
			count = int64(float64(count) * []float64{0.3, 3, 10, 1000}[random.IntN(4)])
		}
		e.LearnPrompt("m", &p, count)
	}
	if mean, _ := off(&e, random, texts, "o200k", 4); mean > 0.12 {
		t.Errorf("mean error %.3f, want at most 0.12", mean)
	}
}

// Whatever comes, and however long the same, the weights stay numbers.
func TestLearningIsStable(t *testing.T) {
	texts := readCounts(t)
	random := rand.New(rand.NewPCG(8, 9))
	var e Estimator
	for i := range 60_000 {
		p := Prompt{Text: *features(strings.Repeat("the same ", 40)), Messages: 1}
		count := int64(95)
		if i > 20_000 {
			p, count = ask(random, texts, "o200k", 2)
		}
		e.LearnPrompt("m", &p, count)
	}
	for i, w := range e.forPrompts("m") {
		if math.IsNaN(w) || w < 0 || w > 100 {
			t.Errorf("weight %d is %v", i, w)
		}
	}
	if mean, _ := off(&e, random, texts, "o200k", 4); mean > 0.1 {
		t.Errorf("mean error %.3f after 60000 rows", mean)
	}
}

func TestWhatTeachesNothing(t *testing.T) {
	text := features(strings.Repeat("hello there ", 50))
	tests := []struct {
		name  string
		p     Prompt
		count int64
	}{
		{"short", Prompt{Text: *features("hello")}, 40},
		{"image", Prompt{Text: *text, Parts: 1}, 300},
		{"token ids", Prompt{Text: *text, TokenIDs: 9}, 130},
		{"cut by the upstream", Prompt{Text: *features(strings.Repeat("hello there ", 500))}, 128},
		{"not about this text", Prompt{Text: *text}, 5000},
		{"nothing", Prompt{Text: *text}, 0},
	}
	for _, tt := range tests {
		var e Estimator
		e.LearnPrompt("m", &tt.p, tt.count)
		if _, learned := e.models.Load("m"); learned {
			t.Errorf("%s: it was learned from", tt.name)
		}
	}
}

// Completions are estimated by what prompts have taught until some were counted.
func TestCompletionsBeginWithPrompts(t *testing.T) {
	var e Estimator
	text := features(strings.Repeat("consectetur adipiscing ", 40))
	untaught := e.Completion("m", text)
	for range 20 {
		e.LearnPrompt("m", &Prompt{Text: *text}, 80)
	}
	byPrompts := e.Completion("m", text)
	if untaught < 100 || byPrompts < 76 || byPrompts > 84 {
		t.Errorf("estimates %d, then %d after prompts of 80 tokens", untaught, byPrompts)
	}
	for range 30 {
		e.LearnCompletion("m", text, 120)
	}
	if n := e.Completion("m", text); n < 114 || n > 126 {
		t.Errorf("estimate %d after completions of 120 tokens", n)
	}
	if n := e.Prompt("m", &Prompt{Text: *text}); n != byPrompts {
		t.Errorf("prompts are estimated at %d since completions were learned, want %d as before", n, byPrompts)
	}
}

func TestModelsAreBounded(t *testing.T) {
	var e Estimator
	var running sync.WaitGroup
	p := &Prompt{Text: *features(strings.Repeat("hello there ", 50))}
	for g := range 4 {
		running.Go(func() {
			for i := range maxModels {
				name := strconv.Itoa(g*maxModels/2 + i)
				e.LearnPrompt(name, p, 90)
				e.Prompt(name, p)
				e.LearnCompletion(name, &p.Text, 110)
			}
		})
	}
	running.Wait()
	n := 0
	e.models.Range(func(_, _ any) bool { n++; return true })
	if n > maxModels {
		t.Errorf("%d models, want at most %d", n, maxModels)
	}
}
