package ratelimit

import "time"

// Window is what one limit has charged in one scope, in buckets of one step.
// The sum of its B+1 buckets is what counts against the limit.
//
// It is plain state: methods take the store time, which should not go backward
// from one call to the next. If it does, it is taken for that of the newest
// bucket.
//
// The window of a calendar limit has one bucket, the period.
type Window struct {
	limit *Limit        // or another one of the same ID
	head  int64         // number of the newest bucket, counted from the Unix epoch; of a period, its start
	end   time.Duration // when the newest bucket ends
	at    int           // where the newest bucket is in cells; older ones precede it, cyclically
	sum   int64         // of cells, ≤ MaxAmount
	cells []int64       // B+1 amounts, none negative
}

// NewWindow returns the empty window of a limit that is not of Concurrency.
func NewWindow(l *Limit) Window {
	return Window{limit: l, cells: make([]int64, l.buckets+1)}
}

// Clear forgets all that was charged.
func (w *Window) Clear() {
	clear(w.cells)
	w.sum = 0
}

// Used is the sum that counts against the limit.
func (w *Window) Used(now time.Duration) int64 {
	w.roll(now)
	return w.sum
}

// Charge adds n to the newest bucket and answers its number, for Refund. Sums
// stop at MaxAmount.
func (w *Window) Charge(now time.Duration, n int64) (bucket int64) {
	w.roll(now)
	n = min(n, MaxAmount-w.sum)
	w.cells[w.at] += n
	w.sum += n
	return w.head
}

// Refund takes n back from the bucket that was charged, or drops it if that
// bucket has left the window.
func (w *Window) Refund(now time.Duration, bucket, n int64) {
	w.roll(now)
	age := w.head - bucket
	if age < 0 || age >= int64(len(w.cells)) {
		return
	}
	cell := &w.cells[w.place(int(age))]
	n = min(n, *cell) // less was charged only where the sum had reached MaxAmount
	*cell -= n
	w.sum -= n
}

// Wait is how long it takes until cost ≤ limit fits; 0 if it fits now.
func (w *Window) Wait(now time.Duration, limit, cost int64) time.Duration {
	w.roll(now)
	over := w.sum + cost - limit
	for age := len(w.cells) - 1; over > 0 && age >= 0; age-- {
		over -= w.cells[w.place(age)]
		if over <= 0 {
			return w.leaves(age) - now
		}
	}
	return 0
}

// Reset is how long it takes until the window is empty; 0 if it is.
func (w *Window) Reset(now time.Duration) time.Duration {
	w.roll(now)
	if w.sum == 0 {
		return 0
	}
	age := 0
	for w.cells[w.place(age)] == 0 {
		age++
	}
	return w.leaves(age) - now
}

// roll makes the bucket of now the newest one, dropping those that have left
// the window.
func (w *Window) roll(now time.Duration) {
	if now >= w.end {
		w.rollTo(w.limit.bucket(now))
	}
}

func (w *Window) rollTo(head int64, end time.Duration) {
	passed := head - w.head
	w.head, w.end = head, end
	if w.sum == 0 {
		return
	}
	for range min(passed, int64(len(w.cells))) {
		w.at++
		if w.at == len(w.cells) {
			w.at = 0
		}
		w.sum -= w.cells[w.at]
		w.cells[w.at] = 0
	}
}

// bucket answers the number of the bucket of a time, and when it ends.
func (l *Limit) bucket(now time.Duration) (number int64, end time.Duration) {
	if l.Calendar == NoCalendar {
		number = int64(now / l.step)
		return number, time.Duration(number+1) * l.step
	}
	first, next := l.Period(time.Unix(0, int64(now)))
	return first.UnixNano(), time.Duration(next.UnixNano())
}

// place is where the bucket of the given age is in cells; the newest is 0 old.
func (w *Window) place(age int) int {
	if i := w.at - age; i >= 0 {
		return i
	}
	return w.at - age + len(w.cells)
}

// leaves is when the bucket of the given age leaves the window.
func (w *Window) leaves(age int) time.Duration {
	return w.end + time.Duration(len(w.cells)-1-age)*w.limit.step
}
