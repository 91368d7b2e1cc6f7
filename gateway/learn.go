package gateway

import (
	"math"
	"sync"
)

const (
	// learnedKeys bounds the pairs of key and model that are learned about.
	learnedKeys = 10_000
	// enough is how many answers must have been seen before they say something.
	enough = 20
	// memory is the weight that all earlier answers keep when one more comes: the
	// last fifty or so count.
	memory = 0.98
	// lengthBuckets of a half power of two each reach beyond a million tokens.
	lengthBuckets = 42
)

// lengths learns how long the answers to each key and model are.
type lengths struct {
	mu     sync.Mutex
	byPair tallies[pair, lengthTally]
}

type pair struct{ key, model string }

// lengthTally counts answers by length, the older the less.
type lengthTally struct {
	weights [lengthBuckets]float64
	sum     float64
	seen    int
}

// observe notes the length of an answer, in tokens a choice.
func (l *lengths) observe(key, model string, tokens int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byPair.of(pair{key, model}, learnedKeys).add(tokens)
}

// p95 is the length that 95 of 100 answers do not exceed, and whether enough were
// seen to tell.
func (l *lengths) p95(key, model string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byPair[pair{key, model}]
	if t == nil || t.seen < enough {
		return 0, false
	}
	return t.quantile(0.95), true
}

func (t *lengthTally) add(tokens int64) {
	for i := range t.weights {
		t.weights[i] *= memory
	}
	t.sum = t.sum*memory + 1
	t.weights[bucketOf(tokens)]++
	t.seen++
}

// quantile is the upper end of the bucket that holds it.
func (t *lengthTally) quantile(q float64) int64 {
	rest := t.sum * q
	for i, w := range t.weights {
		rest -= w
		if rest <= 0 {
			return upperEnd(i)
		}
	}
	return upperEnd(lengthBuckets - 1)
}

func bucketOf(tokens int64) int {
	if tokens <= 1 {
		return 0
	}
	return min(int(math.Ceil(2*math.Log2(float64(tokens)))), lengthBuckets-1)
}

func upperEnd(bucket int) int64 { return int64(math.Ceil(math.Exp2(float64(bucket) / 2))) }
