package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"math/big"
)

const (
	prefix     = "sk-weir-"
	alphabet   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	idLen      = 8
	entropyLen = 43 // 32 random bytes in base 62
	crcLen     = 6
)

// NewSecret makes a client key: sk-weir-, eight characters of public id, a dash,
// 32 random bytes in base 62 and their CRC-32, by which typing errors and leaked
// keys can be told from other text. The id is the key's public name.
func NewSecret() (secret, id string) {
	var raw [32]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the program instead
	id = rand.Text()[:idLen]
	body := prefix + id + "-" + encode(new(big.Int).SetBytes(raw[:]), entropyLen)
	sum := crc32.ChecksumIEEE([]byte(body))
	return body + encode(big.NewInt(int64(sum)), crcLen), id
}

// encode writes v in base 62 with exactly n digits.
func encode(v *big.Int, n int) string {
	digits := make([]byte, n)
	base, rest := big.NewInt(int64(len(alphabet))), new(big.Int)
	for i := n - 1; i >= 0; i-- {
		v.QuoRem(v, base, rest)
		digits[i] = alphabet[rest.Int64()]
	}
	return string(digits)
}

// Hash returns the form of a secret that key files hold: sha256:HEX.
func Hash(secret string) string {
	d := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(d[:])
}

// PepperedHash is Hash with a secret of the site's, without which nobody can try
// guesses. A nil pepper is none.
func PepperedHash(pepper []byte, secret string) string {
	if pepper == nil {
		return Hash(secret)
	}
	d := pepperedDigest(pepper, secret)
	return "hmac-sha256:" + hex.EncodeToString(d[:])
}

// digest is what a secret is looked up by.
type digest [sha256.Size]byte

func plainDigest(secret string) digest { return sha256.Sum256([]byte(secret)) }

// pepperedDigest is HMAC-SHA-256 (RFC 2104) with a secret of the operator.
func pepperedDigest(pepper []byte, secret string) (d digest) {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(secret))
	mac.Sum(d[:0])
	return d
}

// derivedID is the public name of a key whose file gives it none.
func derivedID(d digest) string { return "k-" + hex.EncodeToString(d[:5]) }
