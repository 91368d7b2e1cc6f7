package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// statusLine is that of each answer on a connection.
var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3})`)

// TestSmuggling sends requests whose ends two servers could see at different places, and
// others that a proxy might take for what they are not: none is answered but with an
// error, and the upstream hears of none. Three may be put right instead of refused; each
// of them is one request to the upstream.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	const (
		path    = "/v1/chat/completions"
		chunked = "Transfer-Encoding: chunked"
	)
	body := chat()
	auth, length := "Content-Type: application/json\r\nAuthorization: Bearer "+goodKey, fmt.Sprintf("Content-Length: %d", len(body))
	inChunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	line := func(first string, lines ...string) string {
		return first + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	post := func(lines ...string) string {
		return line("POST "+path+" HTTP/1.1", append([]string{"Host: x"}, lines...)...)
	}
	// What the smuggled request would be, if anyone took it for one.
	second := post(auth, length) + body
	tests := map[string]string{
		"length and chunked":                      post(auth, length, chunked) + inChunks,
		"chunked and length":                      post(auth, chunked, length) + inChunks,
		"length of nothing, chunked":              post(auth, "Content-Length: 0", chunked) + inChunks,
		"length that hides a request, chunked":    post(auth, "Content-Length: 4", chunked) + "5c\r\n" + second + "0\r\n\r\n",
		"chunked that hides a request, length":    post(auth, fmt.Sprintf("Content-Length: %d", 5+len(second)), chunked) + "0\r\n\r\n" + second,
		"two lengths":                             post(auth, length, "Content-Length: 5") + body,
		"two lengths in one":                      post(auth, length+", 5") + body,
		"a length with a sign":                    post(auth, fmt.Sprintf("Content-Length: +%d", len(body))) + body,
		"a negative length":                       post(auth, "Content-Length: -1") + body,
		"a length in hex":                         post(auth, fmt.Sprintf("Content-Length: 0x%x", len(body))) + body,
		"a length with text":                      post(auth, length+"abc") + body,
		"a length beyond 64 bits":                 post(auth, "Content-Length: 18446744073709551617") + body,
		"an empty length":                         post(auth, "Content-Length: ") + body,
		"space before a length's colon":           post(auth, fmt.Sprintf("Content-Length : %d", len(body))) + body,
		"space before the coding's colon":         post(auth, "Transfer-Encoding : chunked") + inChunks,
		"a coding on a folded line":               post(auth, "Transfer-Encoding:\r\n chunked", length) + inChunks,
		"a length behind a bare LF":               post(auth, "X-A: b\nContent-Length: 5", length) + body,
		"xchunked":                                post(auth, "Transfer-Encoding: xchunked") + inChunks,
		"chunked twice":                           post(auth, chunked, "Transfer-Encoding: identity") + inChunks,
		"chunked before another coding":           post(auth, "Transfer-Encoding: chunked, gzip") + inChunks,
		"gzip, chunked":                           post(auth, "Transfer-Encoding: gzip, chunked") + inChunks,
		"quoted chunked":                          post(auth, `Transfer-Encoding: "chunked"`, length) + inChunks,
		"chunked behind a vertical tab":           post(auth, "Transfer-Encoding: \x0bchunked") + inChunks,
		"chunked behind NUL":                      post(auth, "Transfer-Encoding: \x00chunked") + inChunks,
		"a coding in HTTP/1.0":                    line("POST "+path+" HTTP/1.0", "Host: x", auth, chunked, length) + inChunks,
		"a chunk size with a sign":                post(auth, chunked) + "+5\r\nhello\r\n0\r\n\r\n",
		"a chunk size in C's hex":                 post(auth, chunked) + "0x5\r\nhello\r\n0\r\n\r\n",
		"a chunk size beyond 64 bits":             post(auth, chunked) + "10000000000000005\r\nhello\r\n0\r\n\r\n",
		"a chunk longer than it says":             post(auth, chunked) + "3\r\nhello\r\n0\r\n\r\n",
		"no chunk size":                           post(auth, chunked) + "\r\nhello\r\n0\r\n\r\n",
		"a bare CR in the key":                    post("Authorization: Bearer "+goodKey+"\rX: y", length) + body,
		"NUL in a header":                         post(auth, "X-A: b\x00c", length) + body,
		"NUL in a header's name":                  post(auth, "X-\x00A: b", length) + body,
		"NUL in the key":                          post("Authorization: Bearer "+goodKey+"\x00", length) + body,
		"NUL in the path":                         line("POST /v1/chat\x00/completions HTTP/1.1", "Host: x", auth, length) + body,
		"a header without a name":                 post(auth, ": b", length) + body,
		"a header without a colon":                post(auth, "X-A", length) + body,
		"no host":                                 line("POST "+path+" HTTP/1.1", auth, length) + body,
		"two hosts":                               line("POST "+path+" HTTP/1.1", "Host: x", "Host: y", auth, length) + body,
		"two keys":                                post(auth, "Authorization: Bearer "+otherKey, length) + body,
		"a key of full-width letters":             post("Authorization: Bearer ｓｋ"+goodKey[2:], length) + body,
		"a key with a soft hyphen":                post("Authorization: Bearer "+goodKey+"\u00ad", length) + body,
		"a key of 50 KB":                          post("Authorization: Bearer "+strings.Repeat(goodKey, 50<<10/len(goodKey)), length) + body,
		"headers of 70 KB":                        post(auth, "X-A: "+strings.Repeat("a", 70<<10), length) + body,
		"101 headers":                             post(append(strings.Split(strings.Repeat("X-A: b\n", 101), "\n")[:101], auth, length)...) + body,
		"another version":                         line("POST "+path+" HTTP/3.0", "Host: x", auth, length) + body,
		"no version":                              line("POST "+path, "Host: x", auth, length) + body,
		"a method in lower case":                  line("post "+path+" HTTP/1.1", "Host: x", auth, length) + body,
		"another method":                          line("PROPFIND "+path+" HTTP/1.1", "Host: x", auth, length) + body,
		"TRACE":                                   line("TRACE "+path+" HTTP/1.1", "Host: x", auth),
		"CONNECT":                                 line("CONNECT x:443 HTTP/1.1", "Host: x:443", auth),
		"a path with a fragment":                  line("POST "+path+"#/../metrics HTTP/1.1", "Host: x", auth, length) + body,
		"a path with a space":                     line("POST "+path+" x HTTP/1.1", "Host: x", auth, length) + body,
		"a path of backslashes":                   line(`POST \v1\chat\completions HTTP/1.1`, "Host: x", auth, length) + body,
		"a path above the root":                   line("POST /../../v1/chat/completions/.. HTTP/1.1", "Host: x", auth, length) + body,
		"a trailing dot":                          line("POST "+path+". HTTP/1.1", "Host: x", auth, length) + body,
		"an escaped path that escapes an escape":  line("POST /v1/chat%252fcompletions HTTP/1.1", "Host: x", auth, length) + body,
		"an escaped backslash":                    line("POST /v1/chat%5ccompletions HTTP/1.1", "Host: x", auth, length) + body,
		"absolute form to another host's metrics": line("GET http://127.0.0.1/metrics HTTP/1.1", "Host: x", auth),
		"an upgrade to a WebSocket":               post(auth, length, "Connection: Upgrade", "Upgrade: websocket") + body,
		"the caller's id removed as hop by hop":   post("Connection: authorization, x-weir-key", "X-Weir-Key: good", length) + body,
		"not HTTP":                                "hello\r\n\r\n",
		"TLS where there is none":                 "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("a", 160),
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			answers := exchangeRaw(t, r.URL, raw)
			statuses := statusLine.FindAllStringSubmatch(answers, -1)
			// In the midst of a body, and before HTTP is spoken, there is no answer to give.
			if len(statuses) == 0 && !strings.Contains(name, "chunk size") && !strings.HasPrefix(name, "TLS") {
				t.Fatalf("no answer: %q", answers)
			}
			for _, s := range statuses {
				if s[1] != "501" && (s[1] < "400" || s[1] > "499") {
					t.Errorf("answered %q", answers)
				}
			}
			for _, secret := range secrets {
				if strings.Contains(answers, secret) {
					t.Errorf("the answer shows %q", secret)
				}
			}
		})
	}
	for _, e := range r.sim.Ledger().Entries() {
		t.Errorf("a request reached the upstream: %v", e.Header)
	}
	// RFC 9112, sections 2.2 and 5.2, RFC 9110, section 7.8.
	taken := map[string]string{
		"bare LF as the line ends": strings.ReplaceAll(post(auth, length), "\r\n", "\n") + body,
		"a folded key":             post("Content-Type: application/json", "Authorization: Bearer\r\n "+goodKey, length) + body,
		"a bare CR in a header":    post(auth, "X-A: b\rContent-Length: 5", length) + body,
		"an upgrade to HTTP/2":     post(auth, length, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") + body,
	}
	for name, raw := range taken {
		t.Run(name, func(t *testing.T) {
			before := r.sim.Ledger().Len()
			answers := exchangeRaw(t, r.URL, raw)
			statuses := statusLine.FindAllStringSubmatch(answers, -1)
			if len(statuses) != 1 || statuses[0][1] != "200" {
				t.Errorf("answered %q", answers)
			}
			seen := r.sim.Ledger().Entries()[before:]
			if len(seen) != 1 {
				t.Fatalf("%d requests reached the upstream", len(seen))
			}
			for header := range seen[0].Header {
				if h := http.CanonicalHeaderKey(header); h == "Upgrade" || h == "Connection" || h == "Http2-Settings" {
					t.Errorf("the upstream was sent %s", h)
				}
			}
		})
	}
	if got := r.post(body); got.status != http.StatusOK {
		t.Errorf("a good request after all that: status %d", got.status)
	}
}

// exchangeRaw sends bytes, no more, and returns all that comes back: until the server
// closes, or is silent for half a second after an answer.
func exchangeRaw(t *testing.T, url, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server may close before it has read all.
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Logf("not all was read: %v", err)
	}
	var answers strings.Builder
	part := make([]byte, 16<<10)
	_ = c.SetReadDeadline(time.Now().Add(15 * time.Second))
	for {
		n, err := c.Read(part)
		answers.Write(part[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF):
			return answers.String()
		case err != nil:
			t.Logf("the connection ended: %v", err)
			return answers.String()
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	}
}
