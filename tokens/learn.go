package tokens

import (
	"math"
	"sync"
	"sync/atomic"
)

const (
	// leastTokens is how many tokens a text must have to be learned from: in shorter
	// ones what no feature tells is too large a part.
	leastTokens = 64
	// implausible is the factor between count and estimate beyond which the count is
	// not about this text: it was cut, or much was added to it.
	implausible = 4
	// noise is how far texts are from any weights, one standard deviation relative to
	// their counts.
	noise = 0.12
	// forgetting is the part of what is known that each row makes void.
	forgetting = 0.002
	// outlier is how many standard deviations of a row's error are believed.
	outlier = 3
)

// learner learns weights from counted texts, by recursive least squares: each row
// moves the weights by as much as they are uncertain, and makes them less so. Errors
// are relative, so that long texts do not outweigh all others. With the prior's
// uncertainty and with forgetting it is a Kalman filter whose state drifts about the
// prior: see D. Simon, Optimal State Estimation, chapter 5.
type learner struct {
	published atomic.Pointer[vector] // none of them negative; nil before the first row

	rows    atomic.Int64 // learned from
	mu      sync.Mutex
	initial vector // what there was to begin with
	weights vector
	spread  *[termCount]vector // covariance of the weights; nil before the first row
}

// current are the weights by which to estimate, otherwise if nothing was learned.
func (l *learner) current(otherwise *vector) *vector {
	if w := l.published.Load(); w != nil {
		return w
	}
	return otherwise
}

// learn takes a row: the terms of a text and how many tokens it was counted to have.
// initial are the weights to begin with.
func (l *learner) learn(terms vector, count float64, initial *vector) {
	for i := range terms {
		terms[i] /= count
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spread == nil {
		l.initial, l.weights, l.spread = *initial, *initial, firstSpread()
	}
	l.forget()
	l.correct(&terms)
	weights := l.weights
	l.published.Store(&weights)
	l.rows.Add(1)
}

func firstSpread() *[termCount]vector {
	var s [termCount]vector
	for i := range s {
		s[i][i] = deviation(i) * deviation(i)
	}
	return &s
}

// forget draws the weights, and their uncertainty, a little back to what they were
// before the first row, so that no term that few rows have can run away.
func (l *learner) forget() {
	for i := range l.spread {
		for j := range l.spread[i] {
			l.spread[i][j] *= 1 - forgetting
		}
		l.spread[i][i] += forgetting * deviation(i) * deviation(i)
		l.weights[i] += forgetting * (l.initial[i] - l.weights[i])
	}
}

// correct moves the weights towards those by which the terms, relative to their
// count, give 1.
func (l *learner) correct(terms *vector) {
	var toward vector
	for i := range toward {
		toward[i] = l.spread[i].dot(terms)
	}
	variance := noise*noise + toward.dot(terms)
	most := outlier * math.Sqrt(variance)
	miss := min(max(1-l.weights.dot(terms), -most), most)
	for i := range toward {
		l.weights[i] = max(0, l.weights[i]+toward[i]/variance*miss)
		for j := range i + 1 {
			l.spread[i][j] -= toward[i] * toward[j] / variance
			l.spread[j][i] = l.spread[i][j]
		}
	}
}
