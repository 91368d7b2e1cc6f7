package openapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-gateway/weir/openai"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	text, err := Document("v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// The document is valid, and so are all of its examples.
func TestDocumentIsValid(t *testing.T) {
	doc := load(t)
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "v1.2.3" {
		t.Errorf("version %q", doc.Info.Version)
	}
	examples := 0
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody == nil {
				continue
			}
			for _, m := range op.RequestBody.Value.Content {
				if m.Example != nil || len(m.Examples) > 0 {
					examples++
				}
			}
		}
	}
	if examples < 8 {
		t.Errorf("%d requests have examples", examples)
	}
}

// Everything that is served is described, with a word about what it is for.
func TestDocumentIsComplete(t *testing.T) {
	doc := load(t)
	var want []string
	for _, ep := range openai.Endpoints() {
		want = append(want, "POST "+ep.Path())
	}
	for _, path := range []string{"/v1/models", "/v1/models/{id}", "/v1/models/{id}/info", "/v1/key", "/health", "/openapi.json", "/metrics"} {
		want = append(want, "GET "+path)
	}
	want = append(want, "POST /admin/reload-keys", "POST /admin/reset-failed-keys")
	services := adminv1.File_weir_admin_v1_admin_proto.Services()
	for i := range services.Len() {
		s := services.Get(i)
		for j := range s.Methods().Len() {
			want = append(want, "POST /"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
		}
	}
	var got []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			got = append(got, method+" "+path)
			if len(op.Summary) < 8 || strings.Contains(op.Summary, "//") {
				t.Errorf("%s %s is summed up as %q", method, path, op.Summary)
			}
			admin := strings.HasPrefix(path, "/weir.admin.") || strings.HasPrefix(path, "/admin/") || path == "/metrics"
			if admin != (len(item.Servers) > 0) {
				t.Errorf("%s: the servers are not those of its part", path)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("described: %q\nserved: %q", got, want)
	}
}

// Comments of the schema come through.
func TestComments(t *testing.T) {
	notes := comments(adminv1.Source)
	for name, want := range map[string]string{
		"KeysService.Revoke":     "Ends a key for good.",
		"Key.models":             "names or patterns; empty: all",
		"CreateKeyRequest.file":  "Which of the key files is to hold it. Default: the first in weir's format.",
		"CreateKeyResponse.key":  "",
		"LimitUsage.scope":       `for people: "key k_7f3, model m"`,
		"ExchangesService":       "Tells of the requests that this weir is serving. Those of other replicas are theirs to tell.",
		"RotateKeyRequest.grace": "How long the present secret goes on working beside the new one. Absent: not at all.",
	} {
		if got := notes[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	fields := adminv1.File_weir_admin_v1_admin_proto.Messages().ByName("CreateKeyResponse").Fields()
	if f := fields.ByName("pending"); f == nil || f.Kind() != protoreflect.StringKind {
		t.Error("the schema has changed")
	}
	text, err := Document("")
	if err != nil || !json.Valid(text) || strings.Contains(string(text), "weir.v1") {
		t.Errorf("document: %v", err)
	}
}
