package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/telemetry"
)

// demoConfig is what runs when nothing is configured.
//
//go:embed demo.yaml
var demoConfig []byte

//go:embed megallm.yaml
var megaLLMConfig []byte

// configFlags say which configuration to use.
type configFlags struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration. Default: $$CONFIG_FILE, else ./weir.yaml, else what $$MEGALLM_BASE_URL makes weir up run."`
}

// file is the path of the configuration, "" if none is named and there is none.
func (f configFlags) file(e *env) string {
	if f.Config != "" {
		return f.Config
	}
	if file, ok := e.getenv("CONFIG_FILE"); ok && file != "" {
		return file
	}
	if _, err := os.Stat("weir.yaml"); err == nil {
		return "weir.yaml"
	}
	return ""
}

// draft is the configuration that up and serve would run, as far as it can be read, and
// what is wrong with it. Both are nil where they would run the demo.
func (f configFlags) draft(e *env) (*config.Config, error) {
	if file := f.file(e); file != "" {
		return config.Draft(file, e.getenv)
	}
	if url, _ := e.getenv("MEGALLM_BASE_URL"); url == "" {
		return nil, nil
	}
	cfg, err := config.DraftOf("", megaLLMConfig, true, e.getenv)
	if _, missing := os.Stat(megaLLMKeys); missing == nil && cfg != nil {
		cfg.Keys.Files = []string{megaLLMKeys}
	}
	return cfg, err
}

// megaLLMKeys are the keys of clients where the environment is the configuration. Without
// that file one is made for each run.
const megaLLMKeys = "config/api_keys.json"

// errNoConfig is what commands say that have nothing to do without a configuration.
var errNoConfig = usageError{errors.New("no configuration: there is no ./weir.yaml, and without MEGALLM_BASE_URL weir up runs its built-in demo; name a file with -c FILE or CONFIG_FILE")}

// required is the draft where the demo is no help.
func (f configFlags) required(e *env) (*config.Config, error) {
	cfg, err := f.draft(e)
	if cfg == nil && err == nil {
		return nil, errNoConfig
	}
	return cfg, err
}

// partly is the draft for those who need only what stands at those paths.
func (f configFlags) partly(e *env, paths ...string) (*config.Config, error) {
	cfg, err := f.draft(e)
	if mistakes := (*config.Mistakes)(nil); cfg != nil && errors.As(err, &mistakes) && !slices.ContainsFunc(paths, mistakes.About) {
		return cfg, nil
	}
	return cfg, err
}

// nameOf is how a configuration is called.
func nameOf(cfg *config.Config) string {
	return cmp.Or(cfg.File, "The configuration of the environment")
}

// logFlags say what is logged.
type logFlags struct {
	LogLevel  string `placeholder:"LEVEL" help:"trace, debug, info, warn or error. Default: $$LOG_LEVEL, else info."`
	LogFormat string `default:"auto" enum:"auto,json,pretty" help:"auto, json or pretty (${default}: pretty on a terminal)."`
}

func (f logFlags) logger(e *env) (zerolog.Logger, error) {
	level := f.LogLevel
	if level == "" {
		level, _ = e.getenv("LOG_LEVEL")
	}
	if level == "" {
		level = "info"
	}
	log, err := telemetry.NewLogger(e.stderr, level, f.LogFormat)
	if err != nil {
		return zerolog.Nop(), usageError{err}
	}
	e.log = log
	return log.Logger, nil
}

// demo is the built-in configuration, with those values of its variables.
func demo(vars map[string]string) (*config.Config, error) {
	return config.Parse("", demoConfig, true, func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	})
}

// demoKey is a fresh key for the demo.
func demoKey() (string, *keyring.Keyring) {
	secret, id := keyring.NewSecret()
	return secret, keyring.Fixed(map[string]*keyring.Key{secret: {ID: id, User: "demo"}})
}

// runDir is the folder of the sockets when the configuration names none.
func runDir(e *env, cfg *config.Config) string {
	if cfg.RunDir != "" {
		return cfg.RunDir
	}
	if dir, ok := e.getenv("WEIR_RUN_DIR"); ok && dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/run/weir"
	}
	if dir, ok := e.getenv("XDG_RUNTIME_DIR"); ok && dir != "" {
		return filepath.Join(dir, "weir")
	}
	return filepath.Join(os.TempDir(), "weir-"+strconv.Itoa(os.Geteuid()))
}

// findEnvoy finds the binary and sees that it is the right one.
func findEnvoy(e *env) (string, error) {
	binary, err := envoy.Find(func(name string) string {
		v, _ := e.getenv(name)
		return v
	})
	if err != nil {
		return "", err
	}
	return binary, envoy.CheckVersion(e.ctx, binary)
}

// openKeys reads the key files of a configuration.
func openKeys(cfg *config.Config, log zerolog.Logger) (*keyring.Keyring, error) {
	if len(cfg.Keys.Files) == 0 {
		return nil, fmt.Errorf("%s names no client keys, so nobody could call: add \"keys: {files: [keys.yaml]}\", and make a key with: weir keys new", cfg.File)
	}
	return keyring.Open(cfg.Keys, log)
}
