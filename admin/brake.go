package admin

import (
	"crypto/sha256"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"
)

// What a source address may guess: some at once, and then one now and then.
const (
	guessesAtOnce = 10
	guessEvery    = 6 * time.Second
	// maxGuessers bounds how many addresses are told apart; the others are one.
	maxGuessers = 4096
)

// brake slows down those who guess the token. Its methods are safe for concurrent use.
type brake struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	guessers map[netip.Prefix]*guesser
	swept    time.Time // when those were forgotten whose guesses were all there again
}

// guesser is what one address has guessed.
type guesser struct {
	free time.Time // when all its guesses are there again
	last [sha256.Size]byte
}

func newBrake() *brake {
	return &brake{now: time.Now, guessers: map[netip.Prefix]*guesser{}}
}

// try notes a guess and whether it was right. Who has guessed too often is not listened
// to for a while, right or wrong: wait is how long that is, and 0 for all others. The
// same guess again tells nothing new: whoever shows a token that has been replaced is
// not kept out when he has the new one.
func (b *brake) try(source netip.Prefix, guess [sha256.Size]byte, right bool) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	g := b.find(source, now)
	if g != nil {
		if wait = g.free.Sub(now) - (guessesAtOnce-1)*guessEvery; wait > 0 {
			return wait
		}
	}
	if right || g != nil && g.last == guess {
		return 0
	}
	if g == nil {
		g = b.add(source, now)
	}
	g.last = guess
	if g.free.Before(now) {
		g.free = now
	}
	g.free = g.free.Add(guessEvery)
	return 0
}

// find is nil for those of whom nothing is known.
func (b *brake) find(source netip.Prefix, now time.Time) *guesser {
	if len(b.guessers) >= maxGuessers && now.Sub(b.swept) >= guessEvery {
		b.swept = now
		maps.DeleteFunc(b.guessers, func(_ netip.Prefix, g *guesser) bool { return g.free.Before(now) })
	}
	if g := b.guessers[source]; g != nil || len(b.guessers) < maxGuessers {
		return g
	}
	return b.guessers[netip.Prefix{}]
}

func (b *brake) add(source netip.Prefix, now time.Time) *guesser {
	if len(b.guessers) >= maxGuessers {
		source = netip.Prefix{}
	}
	g := &guesser{free: now}
	b.guessers[source] = g
	return g
}

// sourceOf is who asks: an address, or the network of one in IPv6, where everybody has
// as many addresses as he likes.
func sourceOf(remoteAddr string) netip.Prefix {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	const network = 64
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = network
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
