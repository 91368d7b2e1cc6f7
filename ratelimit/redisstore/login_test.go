package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// TestLeastRights: what the package's documentation has the operator allow is
// enough for everything.
func TestLeastRights(t *testing.T) {
	server := redistest.Start(t)
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "ACL SETUSER weir")
	rule, _, found := strings.Cut(rest, "//\n")
	if !found {
		t.Fatal("doc.go names no rule")
	}
	rule = strings.NewReplacer("//", " ", "…", "secret").Replace(rule)
	args := []any{"acl", "setuser", "weir"}
	for word := range strings.FieldsSeq(rule) {
		args = append(args, word)
	}
	server.Do(t, args...)
	f := newFixture(t, redisstore.Options{URL: strings.Replace(server.TCP(), "redis://", "redis://weir:secret@", 1)})
	f.hour.Limit = newLimit(t, "one", ratelimit.Requests, 1, 500*time.Millisecond)
	f.slot.Limit = newLimit(t, "one", ratelimit.Concurrency, 1, 0)
	id := f.mustAdmit()
	d, err := f.store.Admit(t.Context(), f.id(), []ratelimit.Charge{f.hour, f.slot}, ratelimit.AdmitOptions{})
	if err != nil || d.Admitted {
		t.Errorf("Admit at the limit = %+v, error %v", d, err)
	}
	_, err = f.store.Renew(t.Context(), []ratelimit.ID{id})
	f.must(err)
	f.must(f.store.Settle(t.Context(), id, []int64{2, 0}))
	f.must(f.store.Cancel(t.Context(), f.id()))
	f.must(f.store.Reset(t.Context(), []ratelimit.Charge{f.hour}))
	for range 20 { // some of them remove leases that have expired
		f.must(f.store.Cancel(t.Context(), f.mustAdmit()))
		time.Sleep(time.Millisecond)
	}
}

// TestTLS: the server's certificate must be signed by whom we trust.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir, "server")
	certificate(t, dir, "other")
	_, port, _ := net.SplitHostPort(freeAddr(t))
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "server.pem"),
		"--tls-key-file", filepath.Join(dir, "server.key"), "--tls-ca-cert-file", filepath.Join(dir, "server.pem"),
		"--tls-auth-clients", "no")
	url := "rediss://127.0.0.1:" + port
	newFixture(t, redisstore.Options{URL: url, CAFile: filepath.Join(dir, "server.pem")}).mustAdmit()
	for _, file := range []string{filepath.Join(dir, "other.pem"), ""} {
		f := newFixture(t, redisstore.Options{URL: url, CAFile: file})
		err := f.admit(f.id())
		for range 5 { // on a busy machine the handshake may not be over in time
			if err != nil && !strings.Contains(err.Error(), "certificate") {
				err = f.admit(f.id())
			}
		}
		if !errors.Is(err, ratelimit.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("Admit at a server whose certificate is not trusted = error %v", err)
		}
	}
}

// freeAddr is an address that nobody listens at, at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificate writes one for 127.0.0.1, signed by itself, and its key.
func certificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
