package gateway

import (
	"strings"
	"testing"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream"
)

// TestQuotedCredential has upstreams quote what they were shown, in each way that JSON has.
func TestQuotedCredential(t *testing.T) {
	const secret = "sk-canary/0123&456"
	x := &Exchange{target: upstream.Target{Server: &upstream.Server{Credential: secret}}}
	x.call.Endpoint = openai.ChatCompletions
	for _, quoted := range []string{secret, `sk-canary\/0123&456`, `sk-canary/0123\u0026456`, `\u0073k-canary/0123&456`} {
		for _, body := range []string{
			`{"error":{"message":"Key ` + quoted + ` is wrong","type":"t","code":"c","param":"p"}}`,
			`{"error":{"message":"m","type":"t","code":"` + quoted + `","param":"` + quoted + `"}}`,
			`{"detail":"` + quoted + `"}`,
		} {
			e := x.unquoted(400, []byte(body))
			for _, text := range []string{e.Message, e.Code, e.Param, e.Type, string(e.Body())} {
				if strings.Contains(text, secret) || strings.Contains(text, "canary") {
					t.Errorf("%s: %q", body, text)
				}
			}
		}
	}
	if e := x.unquoted(400, []byte("plain "+secret)); strings.Contains(string(e.Body()), "canary") {
		t.Errorf("plain text: %s", e.Body())
	}
}
