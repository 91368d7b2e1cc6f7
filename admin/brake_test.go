package admin

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guessing is a brake with a clock that stands still, and guesses that are all different.
func guessing() (b *brake, guess func(source string, right bool) time.Duration, clock *time.Time) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, n := newBrake(), 0
	b.now = func() time.Time { return now }
	return b, func(source string, right bool) time.Duration {
		n++
		return b.try(sourceOf(source), sha256.Sum256(fmt.Append(nil, n)), right)
	}, &now
}

func TestBrakeAfterTenGuesses(t *testing.T) {
	_, guess, clock := guessing()
	for i := range guessesAtOnce {
		if wait := guess("192.0.2.1:1000", false); wait != 0 {
			t.Fatalf("guess %d: wait %v", i+1, wait)
		}
	}
	for _, right := range []bool{false, true} {
		if wait := guess("192.0.2.1:2000", right); wait != guessEvery {
			t.Errorf("one too many, right: %v: wait %v, want %v", right, wait, guessEvery)
		}
	}
	if wait := guess("192.0.2.2:1000", false); wait != 0 {
		t.Errorf("another address: wait %v", wait)
	}
	*clock = clock.Add(guessEvery)
	if wait := guess("192.0.2.1:1000", true); wait != 0 {
		t.Errorf("a while later, the right one: wait %v", wait)
	}
	if wait := guess("192.0.2.1:1000", false); wait != 0 {
		t.Errorf("a while later, one guess: wait %v", wait)
	}
	if wait := guess("192.0.2.1:1000", false); wait != guessEvery {
		t.Errorf("a while later, two guesses: wait %v", wait)
	}
	*clock = clock.Add(guessesAtOnce * guessEvery)
	for i := range guessesAtOnce {
		if wait := guess("192.0.2.1:1000", false); wait != 0 {
			t.Errorf("long after, guess %d: wait %v", i+1, wait)
		}
	}
}

func TestBrakeOfNetworks(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"[2001:db8::1]:1", "[2001:db8::ffff:2]:9", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1:1", true},
		{"192.0.2.1:1", "192.0.2.3:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2]:1", true},
		{"@", "nonsense", true},
	} {
		if same := sourceOf(c.a) == sourceOf(c.b); same != c.same {
			t.Errorf("%s and %s are one: %v", c.a, c.b, same)
		}
	}
}

// TestBrakeForgets sees that it does not grow with the addresses that guess, and that
// those that it has no room for are slowed down together.
func TestBrakeForgets(t *testing.T) {
	b, guess, clock := guessing()
	source := func(i int) string {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String()
	}
	for i := range maxGuessers + guessesAtOnce {
		if wait := guess(source(i), false); wait != 0 {
			t.Fatalf("address %d: wait %v", i, wait)
		}
	}
	if wait := guess(source(maxGuessers+guessesAtOnce), false); wait == 0 {
		t.Error("those without a place of their own are not slowed down")
	}
	if n := len(b.guessers); n > maxGuessers+1 {
		t.Errorf("%d addresses are remembered", n)
	}
	*clock = clock.Add(2 * guessesAtOnce * guessEvery)
	if wait := guess("192.0.2.1:1", false); wait != 0 {
		t.Errorf("wait %v", wait)
	}
	if n := len(b.guessers); n != 1 {
		t.Errorf("%d addresses are remembered after all have been forgiven", n)
	}
}

func TestTokenCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	const first, second = "0123456789abcdef-first", "0123456789abcdef-second"
	if err := os.WriteFile(file, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := OpenToken(file)
	if err != nil {
		t.Fatal(err)
	}
	before := token.Mark()
	if err := token.Reload(); err != nil || token.Mark() != before {
		t.Errorf("the mark of the same token is another one: %v", err)
	}
	if err := os.WriteFile(file, []byte(second+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := token.Reload(); err != nil {
		t.Fatal(err)
	}
	if token.Mark() == before {
		t.Error("the mark of another token is the same")
	}
	// A program that still shows the old token keeps nobody out, nor one that shows none.
	for range 5 * guessesAtOnce {
		for _, secret := range []string{first, ""} {
			if ok, wait := token.Check("192.0.2.1:1", secret); ok || wait != 0 {
				t.Fatalf("%q: %v, wait %v", secret, ok, wait)
			}
		}
	}
	if ok, wait := token.Check("192.0.2.1:1", second); !ok || wait != 0 {
		t.Errorf("the token: %v, wait %v", ok, wait)
	}
	for i := range guessesAtOnce {
		token.Check("192.0.2.1:1", fmt.Sprint("guess ", i))
	}
	if ok, wait := token.Check("192.0.2.1:1", second); ok || wait == 0 {
		t.Errorf("the token after too many guesses: %v, wait %v", ok, wait)
	}
	if ok, _ := token.Check("192.0.2.2:1", second); !ok {
		t.Error("the token from elsewhere is refused")
	}
	// Nobody guesses a long one, so nobody can keep its holder out either.
	long := strings.Repeat("0123456789abcdef", 2)
	if err := os.WriteFile(file, []byte(long+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := token.Reload(); err != nil {
		t.Fatal(err)
	}
	if ok, wait := token.Check("192.0.2.1:1", long); !ok || wait != 0 {
		t.Errorf("a long token after too many guesses: %v, wait %v", ok, wait)
	}
	if ok, wait := token.Check("192.0.2.1:1", long[1:]); ok || wait == 0 {
		t.Errorf("a long guess after too many: %v, wait %v", ok, wait)
	}
}
