package gateway

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

func TestLengthsAreLearned(t *testing.T) {
	var l lengths
	random := rand.New(rand.NewPCG(1, 2))
	var all []int64
	for range 2000 {
		n := int64(100 + random.NormFloat64()*30)
		all = append(all, max(1, n))
		l.observe("k", "m", max(1, n))
	}
	slices.Sort(all)
	truth := all[len(all)*95/100]
	got, ok := l.p95("k", "m")
	// A bucket is a factor of 1.42 wide, and its upper end is told.
	if !ok || got < truth || got > truth*3/2 {
		t.Errorf("p95 %d, %v; the answers' is %d", got, ok, truth)
	}
	// They have become longer.
	for range 200 {
		l.observe("k", "m", 5000)
	}
	if got, _ := l.p95("k", "m"); got < 5000 || got > 7500 {
		t.Errorf("p95 %d after 200 answers of 5000 tokens", got)
	}
}

func TestLengthsNeedEnough(t *testing.T) {
	var l lengths
	for i := range enough {
		if n, ok := l.p95("k", "m"); ok {
			t.Fatalf("p95 %d after %d answers", n, i)
		}
		l.observe("k", "m", 7)
	}
	if n, ok := l.p95("k", "m"); !ok || n < 7 || n > 10 {
		t.Errorf("p95 %d, %v", n, ok)
	}
	if _, ok := l.p95("k", "other"); ok {
		t.Error("another model has learned too")
	}
}

func TestLengthsAreBounded(t *testing.T) {
	var l lengths
	for i := range learnedKeys + 500 {
		l.observe(strconv.Itoa(i), "m", int64(i))
	}
	if n := len(l.byPair); n > learnedKeys {
		t.Errorf("%d pairs are kept, want at most %d", n, learnedKeys)
	}
}

func TestBuckets(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 3, 5, 100, 1023, 4096, 1 << 20, 1 << 40} {
		b := bucketOf(n)
		if b < lengthBuckets-1 && upperEnd(b) < n {
			t.Errorf("%d tokens are in the bucket that ends at %d", n, upperEnd(b))
		}
		if b > 0 && upperEnd(b-1) >= n && n > 4 {
			t.Errorf("%d tokens fit the bucket that ends at %d", n, upperEnd(b-1))
		}
	}
}
