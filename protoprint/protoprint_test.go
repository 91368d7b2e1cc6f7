package protoprint

import (
	"encoding/json"
	"testing"
	"time"

	"buf.build/go/protoyaml"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// message has numbers in lists and maps, and text that looks like a number.
func message() *configv1.Config {
	limit := &configv1.Limit{Name: "slots", Per: []configv1.Scope{configv1.Scope_key}, Concurrency: 9007199254740993}
	return &configv1.Config{
		Listen: "8080", RunDir: "a \"b\"\n<é>\x7f",
		Models:   []*configv1.Model{{Name: "m", Upstreams: []string{"131000", "true"}, Context: 131000, Weights: map[string]uint32{"u": 3}}},
		Plans:    map[string]*configv1.Plan{"free": {Limits: []*configv1.Limit{limit}}},
		Envoy:    &configv1.Envoy{MaxHeapBytes: 1 << 62},
		Requests: &configv1.Requests{},
	}
}

func TestJSON(t *testing.T) {
	got, err := JSON(message(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"listen":"8080","run_dir":"a \"b\"\n<é>` + "\x7f" + `","models":[{"name":"m","upstreams":["131000","true"],"context":131000,"weights":{"u":3}}],` +
		`"plans":{"free":{"limits":[{"name":"slots","per":["key"],"concurrency":9007199254740993}]}},"envoy":{"max_heap_bytes":4611686018427387904},"requests":{}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !json.Valid(got) {
		t.Error("it is not JSON")
	}
}

// Times are text, and what is not set is there if it is asked for.
func TestJSONOfAll(t *testing.T) {
	got, err := JSON(&adminv1.Key{Id: "a", Expires: timestamppb.New(time.Unix(0, 0)), Limits: []*configv1.Limit{{Concurrency: 1}}}, true)
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		Expires string
		Label   *string
		Limits  []struct{ Burst, Concurrency *int64 }
	}
	if err := json.Unmarshal(got, &key); err != nil {
		t.Fatal(err)
	}
	if l := key.Limits; key.Expires != "1970-01-01T00:00:00Z" || key.Label == nil || len(l) != 1 || *l[0].Burst != 0 || *l[0].Concurrency != 1 {
		t.Errorf("got %s", got)
	}
}

// What is printed can stand in a file, and is read as the same.
func TestYAML(t *testing.T) {
	m := message()
	m.RunDir = "/run/weir"
	got, err := YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	want := `listen: "8080"
run_dir: /run/weir
models:
  - name: m
    upstreams:
      - "131000"
      - "true"
    context: 131000
    weights:
      u: 3
plans:
  free:
    limits:
      - name: slots
        per:
          - key
        concurrency: 9007199254740993
envoy:
  max_heap_bytes: 4611686018427387904
requests: {}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var again configv1.Config
	if err := protoyaml.Unmarshal(got, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(proto.Message(m), &again, protocmp.Transform()); diff != "" {
		t.Errorf("read again (-was +is):\n%s", diff)
	}
}
