package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const small = `
listen: 127.0.0.1:8080
upstreams: [{name: megallm, url: "https://a.example/v1", keys: {file: k}, timeouts: {idle: 30s}}]
models: [{name: m, upstreams: [megallm]}]
`

func parseWith(env map[string]string) (*Config, error) {
	return Parse("weir.yaml", []byte(small), false, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
}

func TestEnvironmentHasTheLastWord(t *testing.T) {
	base, err := parseWith(nil)
	if err != nil {
		t.Fatal(err)
	}
	if base.Listen != "127.0.0.1:8080" || base.Upstreams[0].Total != 0 || base.Upstreams[0].Pool.Tries != DefaultPoolTries {
		t.Errorf("without variables: %+v", base)
	}
	cfg, err := parseWith(map[string]string{
		"HOST": "0.0.0.0", "PORT": "9000", "MEGALLM_BASE_URL": "https://b.example/v1", "MEGALLM_TIMEOUT": "90.5",
		"MEGALLM_MAX_RETRIES": "5", "MAX_KEY_RETRIES": "4",
	})
	if err != nil {
		t.Fatal(err)
	}
	u := cfg.Upstreams[0]
	if cfg.Listen != "0.0.0.0:9000" || u.URL.Host != "b.example" || u.Total != 90500*time.Millisecond || u.Idle != 30*time.Second || u.Pool.Tries != 5 || u.Pool.MaxKeys != 4 {
		t.Errorf("got %s, %+v, %+v", cfg.Listen, u, u.Pool)
	}
	if cfg, err := parseWith(map[string]string{"HOST": "my-laptop", "MEGALLM_TIMEOUT": "2m"}); err != nil || cfg.Listen != "127.0.0.1:8080" || cfg.Upstreams[0].Total != 2*time.Minute {
		t.Errorf("a host's name, a duration: %v, %+v", err, cfg)
	}
}

// What is wrong with a variable is told of the variable, whatever the file says, and all
// at once.
func TestEnvironmentMistakes(t *testing.T) {
	const url = "environment variable MEGALLM_BASE_URL: must be an http:// or https:// URL with a host, such as http://127.0.0.1:8002/v1"
	for _, c := range []struct{ name, value, want string }{
		{"PORT", "http", `environment variable PORT: must be a port from 0 to 65535 (got "http")`},
		{"MEGALLM_MAX_RETRIES", "many", `environment variable MEGALLM_MAX_RETRIES: must be a number from 1 to 10 (got "many")`},
		{"MEGALLM_MAX_RETRIES", "11", `environment variable MEGALLM_MAX_RETRIES: must be a number from 1 to 10 (got "11")`},
		{"MAX_KEY_RETRIES", "0", `environment variable MAX_KEY_RETRIES: must be a number from 1 to 10 (got "0")`},
		{"MEGALLM_BASE_URL", "b.example", url + ` (got "b.example")`},
		{"MEGALLM_BASE_URL", "https://me:canary@b.example", url + ` (got "https://…@b.example")`},
		{"MEGALLM_BASE_URL", "https://b.example?key=canary", url + ` (got "https://b.example")`},
		{"MEGALLM_BASE_URL", "sk-canary", url},
		{"MEGALLM_TIMEOUT", "soon", `environment variable MEGALLM_TIMEOUT: must be a number of seconds such as 120, or a duration such as 90s or 2m (got "soon")`},
		{"MEGALLM_TIMEOUT", "-5", `environment variable MEGALLM_TIMEOUT: must be a number of seconds such as 120, or a duration such as 90s or 2m (got "-5")`},
	} {
		_, err := parseWith(map[string]string{c.name: c.value})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s=%s: error %v, want %s", c.name, c.value, err, c.want)
		}
	}
	_, err := parseWith(map[string]string{"PORT": "x", "MEGALLM_TIMEOUT": "y", "MEGALLM_BASE_URL": "z"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three mistakes: error %v, want three lines", err)
	}
	var mistakes *Mistakes
	if !errors.As(err, &mistakes) || !mistakes.About("listen") || mistakes.About("run_dir") || !mistakes.About("upstreams") {
		t.Errorf("the mistakes are about other fields: %v", err)
	}
}

// A value that comes from a variable is shown beside it, unless it may be a secret.
func TestExpandedValuesAreShown(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"BASE", "b.example", `weir.yaml:1:29: upstreams[0].url: must be an http:// or https:// URL with a host, such as http://127.0.0.1:8002/v1 (got "${BASE}", which is "b.example")`},
		{"MY_KEY", "canary", `weir.yaml:1:29: upstreams[0].url: must be an http:// or https:// URL with a host, such as http://127.0.0.1:8002/v1 (got "${MY_KEY}")`},
	} {
		text := "upstreams: [{name: a, url: \"${" + c.name + "}\"}]\nmodels: [{name: m, upstreams: [a]}]\n"
		text = strings.Replace(text, "url: ", "url:  ", 1)
		_, err := Parse("weir.yaml", []byte(text), false, func(string) (string, bool) { return c.value, true })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// A total that a variable gives is not blamed on the file.
func TestTotalOfVariable(t *testing.T) {
	text := strings.Replace(small, "{idle: 30s}", "{first_byte: 50s, idle: 30s, total: 60s}", 1)
	_, err := Parse("weir.yaml", []byte(text), false, func(name string) (string, bool) { return "40", name == "MEGALLM_TIMEOUT" })
	if err == nil || !strings.Contains(err.Error(), "is longer than total, which is 40s by the environment variable MEGALLM_TIMEOUT (got \"50s\")") {
		t.Errorf("error %v", err)
	}
}
