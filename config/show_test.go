package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
)

// What is shown has no secret, and the defaults.
func TestMasked(t *testing.T) {
	c, err := Parse("weir.yaml", []byte(`
upstreams:
  - {name: a, url: "http://127.0.0.1/v1", key: sk-canary-0123456789}
  - name: b
    url: http://127.0.0.1/v1
    keys: {list: [{key: sk-canary-pool-0123456789, label: one}]}
models: [{name: m, upstreams: [a, b]}]
store: {redis: {url: "sentinel://user:canary-secret@a:1,b:2/main"}}
`), true, testEnv)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(c.Masked())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "canary") {
		t.Errorf("a secret shows: %s", text)
	}
	for _, want := range []string{"sk-…6789", "sentinel://…@a:1,b:2/main", DefaultListen, "8388608", "one"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if got := c.Upstreams[0].Key.Reveal(); got != "sk-canary-0123456789" {
		t.Errorf("masking has changed the configuration itself: %q", got)
	}
}

// Limits that were read and written are the same limits.
func TestLimitMessages(t *testing.T) {
	for _, file := range []string{"testdata/everything.good.yaml", "testdata/limits.good.yaml"} {
		c, err := Load(file, testEnv)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Limits, Limits(LimitMessages(c.Limits)), cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })); diff != "" {
			t.Errorf("%s: limits (-want +got):\n%s", file, diff)
		}
	}
}
