package redisstore

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestURL(t *testing.T) {
	cases := []struct {
		url  string
		want target
	}{
		{"redis://localhost", target{scheme: "redis", addrs: []string{"localhost:6379"}}},
		{"redis://10.0.0.7:6380/3", target{scheme: "redis", addrs: []string{"10.0.0.7:6380"}, db: 3}},
		{"redis://[::1]:7000", target{scheme: "redis", addrs: []string{"[::1]:7000"}}},
		{"redis://weir:p%40ss%2Fw@host", target{scheme: "redis", addrs: []string{"host:6379"}, user: "weir", password: "p@ss/w"}},
		{"redis://:secret@host/0", target{scheme: "redis", addrs: []string{"host:6379"}, password: "secret"}},
		{"redis://weir:se@cret@host", target{scheme: "redis", addrs: []string{"host:6379"}, user: "weir", password: "se@cret"}},
		{"unix:///run/redis.sock", target{scheme: "unix", addrs: []string{"/run/redis.sock"}}},
		{"unix://weir:secret@/run/redis.sock?db=2", target{scheme: "unix", addrs: []string{"/run/redis.sock"}, user: "weir", password: "secret", db: 2}},
		{"sentinel://a,b:26380,c/mymaster", target{scheme: "sentinel", addrs: []string{"a:26379", "b:26380", "c:26379"}, master: "mymaster"}},
		{"sentinel://weir:secret@a/mymaster/4", target{scheme: "sentinel", addrs: []string{"a:26379"}, master: "mymaster", user: "weir", password: "secret", db: 4}},
		{"cluster://weir:secret@a:7000,b:7001", target{scheme: "cluster", addrs: []string{"a:7000", "b:7001"}, user: "weir", password: "secret"}},
	}
	for _, tc := range cases {
		opts := Options{URL: tc.url}
		got, err := opts.parse()
		if err != nil {
			t.Errorf("%s: error %v", tc.url, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(target{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.url, diff)
		}
	}
}

func TestURLWithOtherOptions(t *testing.T) {
	opts := Options{URL: "rediss://weir:old@host", Password: "new"}
	got, err := opts.parse()
	if err != nil || got.tls == nil || got.password != "new" || got.user != "weir" {
		t.Errorf("%+v = %+v, error %v, want TLS and the new password", opts, got, err)
	}
	if name := got.serverTLS("host:6379").ServerName; name != "host" {
		t.Errorf("server name %q, want host", name)
	}
	opts = Options{URL: "sentinel://a/m", CAFile: "options_test.go"}
	if _, err := opts.parse(); err == nil || !strings.Contains(err.Error(), "no certificate in it") {
		t.Errorf("CA file without a certificate: error %v", err)
	}
	opts.CAFile = "none.pem"
	if _, err := opts.parse(); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("CA file that is none: error %v", err)
	}
}

func TestURLErrors(t *testing.T) {
	for url, want := range map[string]string{
		"":                              "want redis://",
		"localhost:6379":                "want redis://",
		"http://hunter2@host":           "want redis://",
		"redis://":                      `host "": want host or host:port`,
		"redis://weir:hunter2@":         `host "": want host or host:port`,
		"redis://weir:hunter2@host:x":   `host "host:x"`,
		"redis://weir:hunter2@host:0":   `host "host:0"`,
		"redis://weir:hunter2@host/x":   `database "x"`,
		"redis://weir:hunter2@host/-1":  `database "-1"`,
		"redis://weir:hunter2@a,b":      "want one host",
		"redis://weir:hunter2%zz@a":     "not percent-encoded",
		"unix://weir:hunter2@redis.s":   "want the path of a socket",
		"sentinel://weir:hunter2@a,b":   "want the name of the master",
		"sentinel://weir:hunter2@a/m/x": `database "x"`,
		"cluster://weir:hunter2@a,b/1":  "want no database",
	} {
		s, err := New(Options{URL: url})
		switch {
		case err == nil:
			t.Errorf("New(%q) = %v, want an error", url, s)
		case !strings.Contains(err.Error(), want):
			t.Errorf("New(%q) = error %v, want one with %q", url, err, want)
		case strings.Contains(err.Error(), "hunter2"):
			t.Errorf("New(%q) = error %v, which shows the password", url, err)
		}
	}
}
