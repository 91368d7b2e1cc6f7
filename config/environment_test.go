package config

import (
	"maps"
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

func TestEnvironmentMistakes(t *testing.T) {
	for name, value := range map[string]string{
		"PORT": "http", "MEGALLM_MAX_RETRIES": "many", "MAX_KEY_RETRIES": "0", "MEGALLM_BASE_URL": "b.example", "MEGALLM_TIMEOUT": "soon",
	} {
		env := map[string]string{}
		maps.Copy(env, map[string]string{name: value})
		_, err := parseWith(env)
		if err == nil || !strings.Contains(err.Error(), value) && !strings.Contains(err.Error(), "upstreams[0]") {
			t.Errorf("%s=%s: error %v, want one that shows what is wrong", name, value, err)
		}
	}
}
