package ratelimit

import "time"

// Leases is the set of exchanges that hold a slot of one concurrency limit in
// one scope.
//
// All leases of a set are granted for the same time, so that the order of
// granting and renewing is the order of expiry: a list, of which every
// operation touches a constant part. Its links are indices into one slice, and
// a lease is found again by its index and the ID there. The zero value is an
// empty set.
type Leases struct {
	slots []lease // slots[0] is the list's anchor: next expires first, prev last
	free  int32   // first unused slot, linked by next; 0 if there is none
	live  int
}

type lease struct {
	id         ID
	expires    time.Duration // store time; 0 in an unused slot
	prev, next int32
}

// Live is how many leases have not expired.
func (l *Leases) Live(now time.Duration) int {
	l.expire(now)
	return l.live
}

// Grant adds a lease until now+ttl and answers its slot, for Renew and Release.
func (l *Leases) Grant(now time.Duration, id ID, ttl time.Duration) (slot int64) {
	l.expire(now)
	i := l.unused()
	l.slots[i].id = id
	l.append(i, now+ttl)
	return int64(i)
}

// Release ends a lease. One that has expired, or never was, is a no-op.
func (l *Leases) Release(slot int64, id ID) {
	if l.holds(slot, id) {
		l.remove(int32(slot))
	}
}

// Renew extends a lease until now+ttl. It answers false, and changes nothing,
// when the lease has been lost.
func (l *Leases) Renew(now time.Duration, slot int64, id ID, ttl time.Duration) bool {
	l.expire(now)
	if !l.holds(slot, id) {
		return false
	}
	i := int32(slot)
	l.unlink(i)
	l.append(i, now+ttl)
	return true
}

// Wait is how long it takes until one more lease fits under limit if none is
// renewed or released; 0 if it fits now.
func (l *Leases) Wait(now time.Duration, limit int64) time.Duration {
	l.expire(now)
	excess := int64(l.live) - limit + 1
	if excess <= 0 {
		return 0
	}
	i := int32(0)
	for range excess {
		i = l.slots[i].next
	}
	return l.slots[i].expires - now
}

// Reset is how long it takes until all leases have expired if none is renewed;
// 0 if there is none.
func (l *Leases) Reset(now time.Duration) time.Duration {
	l.expire(now)
	if l.live == 0 {
		return 0
	}
	return l.slots[l.slots[0].prev].expires - now
}

// expire removes the leases whose time has come.
func (l *Leases) expire(now time.Duration) {
	for l.live > 0 && l.slots[l.slots[0].next].expires <= now {
		l.remove(l.slots[0].next)
	}
}

func (l *Leases) holds(slot int64, id ID) bool {
	return slot > 0 && slot < int64(len(l.slots)) && l.slots[slot].id == id && l.slots[slot].expires != 0
}

func (l *Leases) unused() int32 {
	if l.free != 0 {
		i := l.free
		l.free = l.slots[i].next
		return i
	}
	if len(l.slots) == 0 {
		l.slots = make([]lease, 1, 4)
	}
	l.slots = append(l.slots, lease{})
	return int32(len(l.slots) - 1)
}

// append links slot i in as the last to expire.
func (l *Leases) append(i int32, expires time.Duration) {
	anchor, s := &l.slots[0], &l.slots[i]
	last := &l.slots[anchor.prev]
	s.expires = max(expires, last.expires) // the anchor's is 0
	s.prev, s.next = anchor.prev, 0
	last.next, anchor.prev = i, i
	l.live++
}

func (l *Leases) unlink(i int32) {
	s := &l.slots[i]
	l.slots[s.prev].next = s.next
	l.slots[s.next].prev = s.prev
	l.live--
}

func (l *Leases) remove(i int32) {
	l.unlink(i)
	l.slots[i] = lease{next: l.free}
	l.free = i
}
