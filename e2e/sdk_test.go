package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// facts is what a check program reports of one case.
type facts struct {
	Content          string
	Text             string
	Chunks           int
	EmptyChoices     int     `json:"empty_choices"`
	FinishReason     string  `json:"finish_reason"`
	UsageSeen        bool    `json:"usage_seen"`
	PromptTokens     *int64  `json:"prompt_tokens"`
	CompletionTokens *int64  `json:"completion_tokens"`
	Class            string  `json:"class"`
	Message          string  `json:"message"`
	Status           int     `json:"status"`
	Code             any     `json:"code"` // a string or null of ours; anything of an upstream's
	Param            *string `json:"param"`
	RequestID        *string `json:"request_id"`
	RetryAfter       *string `json:"retry_after"`
	IDs              []string
	Retrieved        string
}

// TestOfficialSDKs runs OpenAI's own SDKs against weir.
func TestOfficialSDKs(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		model: "tokens=6", limits: "  - {name: key-rpm, per: [key], requests: 1000/m}\n",
		keys: "  - {id: limited, secret: " + limitedKey + ", limits: [{name: key-rpm, per: [key], requests: 1/m}]}\n",
	})
	if got := r.post(chat(), "Authorization", limitedKey); got.status != 200 {
		t.Fatalf("the limited key's only request: status %d", got.status)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sdks := []struct {
		name    string
		command []string
		classes map[string]string // exception by case
	}{
		{"python", []string{filepath.Join(root, ".tools/py/bin/python"), filepath.Join(root, "e2e/sdk/python/check.py")}, map[string]string{
			"bad_key": "AuthenticationError", "rate_limit": "RateLimitError", "not_found": "NotFoundError", "error_midstream": "APIError",
		}},
		{"node", []string{"node", filepath.Join(root, "e2e/sdk/node/check.mjs")}, map[string]string{
			"bad_key": "AuthenticationError", "rate_limit": "RateLimitError", "not_found": "NotFoundError", "error_midstream": "APIError",
		}},
		{"go", []string{filepath.Join(root, ".tools/sdk-go")}, nil},
	}
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			got := checkProgram[facts](t, r, sdk.command...)
			if len(got) != 9 {
				t.Errorf("%d cases, want 9", len(got))
			}
			judge(t, got)
			for name, class := range sdk.classes {
				if got[name].Class != class {
					t.Errorf("%s: %s, want %s", name, got[name].Class, class)
				}
			}
		})
	}
}

const limitedKey = "sk-test-limited-0123456789"

// checkProgram runs an SDK's check program and returns its facts by case.
func checkProgram[facts any](t *testing.T, r *rig, command ...string) map[string]facts {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make test installs it", command[0])
		}
		t.Skipf("SKIPPED: %s is missing: make test installs what the SDKs need", command[0])
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "WEIR_URL="+r.URL+"/v1", "WEIR_KEY="+goodKey, "WEIR_LIMITED_KEY="+limitedKey, "WEIR_MODEL=m")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, stderr.String())
	}
	cases := map[string]facts{}
	for line := range bytes.Lines(out) {
		var c struct {
			Case   string
			OK     bool
			Detail facts
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("line %s: %v", line, err)
		}
		if !c.OK {
			t.Errorf("%s did not go as it should: %s", c.Case, line)
		}
		cases[c.Case] = c.Detail
	}
	return cases
}

// judge looks at the facts that all SDKs have in common.
func judge(t *testing.T, got map[string]facts) {
	t.Helper()
	for _, name := range []string{"plain", "stream_usage", "completions"} {
		f := got[name]
		if f.FinishReason != "stop" || f.CompletionTokens == nil || *f.CompletionTokens != 6 || f.PromptTokens == nil || *f.PromptTokens == 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := got["stream"]; f.EmptyChoices != 0 || f.UsageSeen || f.FinishReason != "stop" || f.Text == "" || f.Chunks < 6 {
		t.Errorf("stream without asking for usage: %+v", f)
	}
	if f := got["stream_usage"]; f.EmptyChoices != 1 || !f.UsageSeen || f.Text == "" {
		t.Errorf("stream that asked for usage: %+v", f)
	}
	for name, want := range map[string]struct {
		status int
		code   string
	}{"bad_key": {401, "invalid_api_key"}, "rate_limit": {429, "rate_limit_exceeded"}, "not_found": {404, "model_not_found"}} {
		f := got[name]
		if f.Status != want.status || f.Code != want.code || f.RequestID == nil || *f.RequestID == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := got["rate_limit"]; f.RetryAfter == nil || *f.RetryAfter == "" {
		t.Errorf("rate_limit: no retry-after: %+v", f)
	}
	if f := got["not_found"]; f.Param == nil || *f.Param != "model" {
		t.Errorf("not_found: %+v", f)
	}
	if f := got["error_midstream"]; f.Text == "" {
		t.Errorf("error_midstream: %+v", f)
	}
	if diff := cmp.Diff([]string{"m", "alias", "dead"}, got["models"].IDs); diff != "" || got["models"].Retrieved != "m" {
		t.Errorf("models (-want +got):\n%s retrieved %q", diff, got["models"].Retrieved)
	}
}
