package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// other stands for label values that have no series of their own.
const other = "other"

// How many series a metric may have with names that weir did not choose, such as those
// of models: far more than anybody looks at, and few enough for any Prometheus. A
// histogram's have twenty times the cost.
const (
	maxCounters   = 500
	maxHistograms = 300
)

// labels are the values of a metric's labels, in their order.
type labels [6]string

// family is a metric with labels, whose children are looked up without allocation. Once
// it has its most series, further names count as "other".
type family[M any] struct {
	child func(...string) M
	names int   // of labels
	open  []int // positions of the labels that weir does not choose the values of
	most  int
	full  prometheus.Counter // counts what went to other

	mu       sync.RWMutex
	children map[labels]M // guarded by mu
}

// newFamily makes one of a vector with labels of those names.
func newFamily[M any](child func(...string) M, most int, full prometheus.Counter, names []string) *family[M] {
	f := &family[M]{child: child, names: len(names), most: most, full: full, children: map[labels]M{}}
	for i, name := range names {
		switch name {
		case "model", "limit", "upstream", providerName, requestModel, responseModel:
			f.open = append(f.open, i)
		}
	}
	return f
}

// of is the child with those label values.
func (f *family[M]) of(values labels) M {
	f.mu.RLock()
	c, ok := f.children[values]
	f.mu.RUnlock()
	if ok {
		return c
	}
	return f.add(values)
}

// add makes a child. It is a function of its own because it slices the values, which puts
// them on the heap.
func (f *family[M]) add(values labels) M {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.children[values]; !ok && len(f.children) >= f.most && len(f.open) > 0 {
		f.full.Inc()
		for _, i := range f.open {
			values[i] = other
		}
	}
	if c, ok := f.children[values]; ok {
		return c
	}
	c := f.child(values[:f.names]...)
	f.children[values] = c
	return c
}
