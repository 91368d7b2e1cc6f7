package authz

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
)

const secret = "sk-test-0123456789abcdef"

func server() *Server {
	return New(keyring.Fixed(map[string]*keyring.Key{
		secret:                {ID: "good"},
		"sk-over-0123456789":  {ID: "over"},
		"sk-off-0123456789":   {ID: "off", Disabled: true},
		"sk-past-0123456789":  {ID: "past", Expires: time.Unix(1, 0)},
		"sk-net-0123456789":   {ID: "net", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"sk-chats-0123456789": {ID: "chats", Endpoints: []string{"/v1/chat/completions"}},
	}), func(key *keyring.Key, ep openai.Endpoint, id string, trace telemetry.TraceContext, _ time.Time) *openai.Error {
		if id == "traced" && (trace.Parent != "p" || trace.State != "a=1,b=2") {
			return &openai.Error{Status: http.StatusTeapot, Message: "the trace is " + trace.Parent + " " + trace.State}
		}
		if key.ID == "over" && ep == openai.ChatCompletions && id == "r" {
			return &openai.Error{Status: http.StatusTooManyRequests, Type: openai.TypeRequests, Message: "over the limit"}
		}
		return nil
	}, telemetry.NewMetrics())
}

func TestOverALimit(t *testing.T) {
	headers := []string{"authorization", "sk-over-0123456789", "x-request-id", "r"}
	resp := check(t, "/v1/chat/completions", "192.0.2.1", headers...)
	if resp.GetDeniedResponse().GetStatus().GetCode() != http.StatusTooManyRequests {
		t.Errorf("answer %v, want 429", resp)
	}
	if resp := check(t, "/v1/models", "192.0.2.1", headers...); resp.GetOkResponse() == nil {
		t.Errorf("the list of models is not limited: %v", resp)
	}
}

// TestTrace has what the client says of its trace passed on, for refusals.
func TestTrace(t *testing.T) {
	resp := check(t, "/v1/chat/completions", "192.0.2.1",
		"authorization", secret, "x-request-id", "traced", "traceparent", "p", "tracestate", "a=1", "tracestate", "b=2")
	if resp.GetOkResponse() == nil {
		t.Errorf("answer %v", resp)
	}
}

// check asks about a request with those headers, given as pairs.
func check(t *testing.T, path, source string, headers ...string) *authv3.CheckResponse {
	t.Helper()
	m := &corev3.HeaderMap{}
	for i := 0; i+1 < len(headers); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: headers[i], RawValue: []byte(headers[i+1])})
	}
	return checkHTTP(t, source, &authv3.AttributeContext_HttpRequest{Path: path, HeaderMap: m})
}

// checkHTTP asks about a request as Envoy tells of it.
func checkHTTP(t *testing.T, source string, req *authv3.AttributeContext_HttpRequest) *authv3.CheckResponse {
	t.Helper()
	return server().answer("", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: source},
		}}},
		Request: &authv3.AttributeContext_Request{Http: req},
	}})
}

func TestAdmitted(t *testing.T) {
	for name, headers := range map[string][]string{
		"bearer":           {"authorization", "Bearer " + secret},
		"another case":     {"authorization", "BEARER  " + secret + " "},
		"bare":             {"authorization", secret},
		"x-api-key":        {"x-api-key", secret},
		"api-key":          {"api-key", secret},
		"twice the same":   {"authorization", "Bearer " + secret, "x-api-key", secret},
		"identity":         {"authorization", secret, "content-encoding", "identity"},
		"a header between": {"x-request-id", "r", "authorization", secret},
	} {
		resp := check(t, "/v1/chat/completions?x=y", "192.0.2.1", headers...)
		ok := resp.GetOkResponse()
		if resp.GetStatus().GetCode() != int32(codes.OK) || ok == nil {
			t.Errorf("%s: refused: %v", name, resp)
			continue
		}
		h := ok.GetHeaders()
		if len(h) != 1 || h[0].GetHeader().GetKey() != "x-weir-key" || h[0].GetHeader().GetValue() != "good" ||
			h[0].GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s: headers %v", name, h)
		}
		for _, credential := range []string{"authorization", "x-api-key", "api-key"} {
			if !slices.Contains(ok.GetHeadersToRemove(), credential) {
				t.Errorf("%s: %s would reach the upstream", name, credential)
			}
		}
	}
}

// TestHeadersAsMap has an Envoy tell of headers by name, as those that others configure do.
func TestHeadersAsMap(t *testing.T) {
	for name, tt := range map[string]struct {
		headers map[string]string
		status  int // of a refusal; 0 is none
	}{
		"bearer":               {map[string]string{"authorization": "Bearer " + secret, "x-request-id": "r"}, 0},
		"api-key":              {map[string]string{"api-key": secret, "accept": "*/*"}, 0},
		"nothing":              {map[string]string{"accept": "*/*"}, 401},
		"two that differ":      {map[string]string{"authorization": secret, "api-key": "sk-off-0123456789"}, 401},
		"two of one name":      {map[string]string{"authorization": "Bearer " + secret + ",Bearer " + secret}, 401},
		"unknown":              {map[string]string{"authorization": "Bearer sk-unknown-0123456789"}, 401},
		"a header's own case":  {map[string]string{"Authorization": "Bearer " + secret}, 401}, // Envoy sends names in lower case
		"compressed":           {map[string]string{"authorization": secret, "content-encoding": "gzip"}, 415},
		"another way to write": {map[string]string{"x-api-key": " " + secret}, 0},
	} {
		resp := checkHTTP(t, "192.0.2.1", &authv3.AttributeContext_HttpRequest{Path: "/v1/completions", Headers: tt.headers})
		if got := int(resp.GetDeniedResponse().GetStatus().GetCode()); got != tt.status {
			t.Errorf("%s: status %d, want %d", name, got, tt.status)
		}
	}
}

func TestDenied(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		status  int
		code    string // of the error; "" is null
		says    string
	}{
		{"nothing", nil, 401, "", "didn't provide"},
		{"another header", []string{"x-request-id", secret}, 401, "", "didn't provide"},
		{"empty", []string{"authorization", ""}, 401, "", "malformed"},
		{"bearer alone", []string{"authorization", "Bearer"}, 401, "", "malformed"},
		{"basic", []string{"authorization", "Basic " + secret}, 401, "", "malformed"},
		{"control characters", []string{"authorization", "Bearer " + secret + "\x00"}, 401, "", "malformed"},
		{"not ASCII", []string{"authorization", "Bearer sk-tést"}, 401, "", "malformed"},
		{"endless", []string{"authorization", "Bearer " + strings.Repeat("x", 10_000)}, 401, "", "malformed"},
		{"two that differ", []string{"authorization", secret, "authorization", "sk-off-0123456789"}, 401, "", "two different"},
		{"unknown", []string{"authorization", "Bearer sk-unknown-0123456789"}, 401, "invalid_api_key", "sk-…6789"},
		{"unknown and short", []string{"authorization", "Bearer abc"}, 401, "invalid_api_key", "provided: …."},
		{"another case of the secret", []string{"authorization", strings.ToUpper(secret)}, 401, "invalid_api_key", "Incorrect"},
		{"disabled", []string{"authorization", "sk-off-0123456789"}, 401, "invalid_api_key", "Incorrect"},
		{"expired", []string{"authorization", "sk-past-0123456789"}, 401, "invalid_api_key", "Incorrect"},
		{"another address", []string{"authorization", "sk-net-0123456789"}, 403, "", "from this address"},
		{"another endpoint", []string{"authorization", "sk-chats-0123456789"}, 403, "", "/v1/completions"},
		{"compressed", []string{"authorization", secret, "content-encoding", "gzip"}, 415, "", "Compressed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := check(t, "/v1/completions", "192.0.2.1", tt.headers...)
			denied := resp.GetDeniedResponse()
			if resp.GetStatus().GetCode() == int32(codes.OK) || int(denied.GetStatus().GetCode()) != tt.status {
				t.Fatalf("answer %v, want status %d", resp, tt.status)
			}
			var body struct {
				Error struct {
					Message string
					Code    *string
				}
			}
			if err := json.Unmarshal([]byte(denied.GetBody()), &body); err != nil {
				t.Fatal(err)
			}
			code := ""
			if body.Error.Code != nil {
				code = *body.Error.Code
			}
			if code != tt.code || !strings.Contains(body.Error.Message, tt.says) {
				t.Errorf("error %s, want code %q, saying %q", denied.GetBody(), tt.code, tt.says)
			}
			if strings.Contains(denied.GetBody(), "sk-unknown") || strings.Contains(denied.GetBody(), secret) {
				t.Errorf("the answer shows the secret: %s", denied.GetBody())
			}
		})
	}
}

func TestAddressInRange(t *testing.T) {
	for _, source := range []string{"10.1.2.3", "::ffff:10.1.2.3"} {
		if resp := check(t, "/v1/models", source, "authorization", "sk-net-0123456789"); resp.GetOkResponse() == nil {
			t.Errorf("from %s: %v", source, resp)
		}
	}
	if resp := check(t, "/v1/models", "", "authorization", "sk-net-0123456789"); resp.GetDeniedResponse().GetStatus().GetCode() != http.StatusForbidden {
		t.Errorf("from an address that Envoy does not tell: %v", resp)
	}
}

func TestEndpointName(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/chat/completions": "chat_completions", "/v1/completions": "completions",
		"/v1/models": "models", "/v1/models/a/b": "models", "/v1/modelsx": "unknown", "": "unknown",
	} {
		if got := endpointName(path); got != want {
			t.Errorf("endpointName(%q) = %q, want %q", path, got, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("authorization", "Bearer "+secret, "x-api-key", "\xff")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		resp := check(t, "/v1/models", "192.0.2.1", name1, value1, name2, value2)
		if resp.GetOkResponse() == nil {
			return
		}
		if !strings.Contains(value1+value2, secret) && !strings.Contains(value1+value2, "sk-chats-0123456789") {
			t.Errorf("admitted without a secret: %q %q %q %q", name1, value1, name2, value2)
		}
	})
}

// BenchmarkCheck compares callers whose key is known with others: what a guesser could
// learn from the time of an answer.
func BenchmarkCheck(b *testing.B) {
	s := server()
	for name, value := range map[string]string{"known": secret, "unknown": "sk-unknown-0123456789", "disabled": "sk-off-0123456789"} {
		req := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Path: "/v1/chat/completions", HeaderMap: &corev3.HeaderMap{
				Headers: []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + value)}},
			}},
		}}}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if s.answer("", req).GetHttpResponse() == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
