package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/openai"
)

// certificate makes a pair of PEM files for 127.0.0.1, by that serial number.
func certificate(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "weir"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})
}

// TestTLSAndAccessLog serves TLS, renews the certificate under a live stream, and reads
// what the access log tells of streams that weir reads and does not read.
func TestTLSAndAccessLog(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	pair := func(serial int64) {
		cert, key := certificate(t, serial)
		for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
			writeFile(t, filepath.Join(dir, name+".new"), string(text))
			if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	pair(1)
	log := filepath.Join(dir, "access.log")
	r := start(t, fixture{
		model: "tokens=30,pace=100ms", metering: "native",
		extra: fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\nenvoy: {access_log: %q}\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), log),
	})
	if !strings.HasPrefix(r.URL, "https://") {
		t.Fatalf("weir says that it is at %s", r.URL)
	}
	client := func() *http.Client {
		return &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, //nolint:gosec // its serial number is looked at
		}}
	}
	ask := func(c *http.Client, body string, headers ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/v1/chat/completions?key="+goodKey, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+goodKey)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	stream := ask(client(), chat(`"stream":true`))
	defer stream.Body.Close()
	if got := stream.TLS.PeerCertificates[0].SerialNumber.Int64(); got != 1 || stream.ProtoMajor != 2 {
		t.Errorf("certificate %d by %s", got, stream.Proto)
	}
	pair(2)
	r.eventually("a new connection has the new certificate", func() bool {
		c := client()
		defer c.CloseIdleConnections()
		resp := ask(c, chat(), "x-simulate", "tokens=3")
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == http.StatusOK && resp.TLS.PeerCertificates[0].SerialNumber.Int64() == 2
	})
	text, err := io.ReadAll(stream.Body)
	if err != nil || !strings.HasSuffix(string(text), "data: [DONE]\n\n") {
		t.Errorf("the stream ends in %q: %v", text[max(0, len(text)-80):], err)
	}
	type line struct {
		Status             int
		Path, Key, Model   string
		Upstream, Protocol string
		Input              int64 `json:"input_tokens"`
		Output             int64 `json:"output_tokens"`
		Duration           int64 `json:"duration_ms"`
	}
	plain, streamed := false, false
	var logged []byte
	r.eventually("the access log tells of both", func() bool {
		if logged, err = os.ReadFile(log); err != nil {
			return false
		}
		for l := range bytes.Lines(logged) {
			var got line
			if err := json.Unmarshal(l, &got); err != nil {
				return false // not complete yet
			}
			if got.Status != 200 || got.Path != "/v1/chat/completions" || got.Key != "good" || got.Model != "m" || got.Upstream != "sim" || got.Input == 0 {
				t.Fatalf("a line says %s", l)
			}
			plain = plain || got.Output == 3
			streamed = streamed || got.Output == 30 && got.Duration > 2000
		}
		return plain && streamed
	})
	for _, secret := range secrets {
		if bytes.Contains(logged, []byte(secret)) {
			t.Errorf("the access log shows %q", secret)
		}
	}
	if old, err := tls.Dial("tcp", strings.TrimPrefix(r.URL, "https://"), &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}); err == nil { //nolint:gosec // that it is refused is what is tested
		_ = old.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// TestHeapOverload fills Envoy's heap with bodies that do not end: new requests are refused
// as an overloaded server's are, what runs goes on, and all is well again afterwards.
//
// It runs alone: a hundred megabytes of bodies are no company for others.
func TestHeapOverload(t *testing.T) {
	r := start(t, fixture{
		model: "tokens=100,pace=100ms", metering: "native",
		extra: "envoy: {max_heap_bytes: 67108864, max_request_bytes: 33554432, concurrency: 1}\n",
	})
	bodies := openStreams(t, r, 1, "m")
	const bodySize, held = 12 << 20, 8
	part := bytes.Repeat([]byte("x"), bodySize)
	h2 := &http.Transport{Protocols: &http.Protocols{}}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	holding, free := context.WithCancel(t.Context())
	defer free()
	ended := make(chan struct{}, held)
	for range held {
		body, write := io.Pipe()
		go func() { _, _ = write.Write(part) }() // it never ends
		go func() {
			defer body.Close()
			req, err := http.NewRequestWithContext(holding, http.MethodPost, r.URL+"/v1/chat/completions", body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+goodKey)
			if resp, err := h2.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
			if holding.Err() == nil {
				ended <- struct{}{}
			}
		}()
	}
	var refused reply
	r.eventually("an overloaded Envoy refuses", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := r.try(ctx, http.MethodPost, "/v1/chat/completions", chat(), "x-simulate", "tokens=1")
		refused = got
		return err == nil && got.status == http.StatusServiceUnavailable
	})
	if refused.code() != openai.CodeOverloaded || refused.header.Get("Retry-After") == "" {
		t.Errorf("refused with %v %s", refused.header, refused.body)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("no request that holds much memory was ended")
	}
	free()
	r.eventually("it serves again", func() bool {
		got, err := r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(), "x-simulate", "tokens=1")
		return err == nil && got.status == http.StatusOK
	})
	if body := <-bodies; !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("the stream ends in %q", body[max(0, len(body)-80):])
	}
}

// TestWhoTheClientIs believes in x-forwarded-for what trusted proxies wrote there.
func TestWhoTheClientIs(t *testing.T) {
	t.Parallel()
	for trusted, want := range []string{"127.0.0.1", "198.51.100.2", "203.0.113.9"} {
		log := filepath.Join(shortDir(t), "access.log")
		r := start(t, fixture{extra: fmt.Sprintf("envoy: {access_log: %q, trusted_proxies: %d}\n", log, trusted)})
		if got := r.post(chat(), "X-Forwarded-For", "192.0.2.1, 203.0.113.9, 198.51.100.2"); got.status != http.StatusOK {
			t.Fatalf("status %d", got.status)
		}
		var line struct{ Client string }
		r.eventually("there is a line", func() bool {
			text, err := os.ReadFile(log)
			return err == nil && json.Unmarshal(text, &line) == nil
		})
		if line.Client != want {
			t.Errorf("with %d trusted proxies the client is %q, want %q", trusted, line.Client, want)
		}
	}
}

// TestAddressesOfKeys has keys used that are for some addresses only, behind a load
// balancer, on paths of both filters.
func TestAddressesOfKeys(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: "envoy: {trusted_proxies: 1}\n", keys: `
  - {id: ten, secret: sk-test-ten-0123456789, cidrs: [10.0.0.0/8]}
  - {id: six, secret: sk-test-six-0123456789, cidrs: ["2001:db8::/32"]}
`})
	for _, tt := range []struct {
		key, from string
		status    int
	}{
		{"ten", "10.1.2.3", 200},
		{"ten", "192.0.2.9, 10.1.2.3", 200},
		{"ten", "::ffff:10.1.2.3", 200},
		{"six", "2001:db8::7", 200},
		{"ten", "192.0.2.1", 403},
		{"ten", "10.1.2.3, 192.0.2.1", 403},
		{"six", "10.1.2.3", 403},
	} {
		headers := []string{"Authorization", "Bearer sk-test-" + tt.key + "-0123456789", "X-Forwarded-For", tt.from}
		for path, got := range map[string]reply{
			"/v1/chat/completions": r.post(chat(), headers...),
			"/v1/models":           r.do(http.MethodGet, "/v1/models", "", headers...),
			"/v1/key":              r.do(http.MethodGet, "/v1/key", "", headers...),
		} {
			if got.status != tt.status {
				t.Errorf("%s by %s from %s: status %d, want %d: %s", path, tt.key, tt.from, got.status, tt.status, got.body)
			}
		}
	}
}
