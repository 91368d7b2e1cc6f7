package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/simulator"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

// checkCmd is weir check.
type checkCmd struct {
	configFlags
	Strict bool `help:"Exit code 1 for what is unsafe, too."`
}

// Run reads all that serve would read, and says every problem, and what is unsafe.
func (c *checkCmd) Run(e *env) error {
	cfg, err := c.required(e)
	if cfg == nil {
		return err
	}
	missing := unreadable(cfg, slices.Concat(filesOf(cfg), envoysFiles(cfg)))
	var unwise []string
	keys, wrong := checkParts(cfg, err == nil, warnings(func(text string) { unwise = append(unwise, text) }))
	if err := config.Join(err, missing, wrong); err != nil {
		return err
	}
	unwise = slices.Concat(unwise, unsafe(cfg), strayModels(cfg, keys))
	for _, text := range unwise {
		fmt.Fprintln(e.stderr, "warning:", text)
	}
	if c.Strict && len(unwise) > 0 {
		return errNo
	}
	models := count(len(cfg.Models), "model")
	if slices.ContainsFunc(cfg.Upstreams, func(u config.Upstream) bool { return u.Offer != config.Listed }) {
		models += " and those that upstreams bring"
	}
	fmt.Fprintf(e.stdout, "%s is fine: %s, %s, %s.\n", nameOf(cfg), count(len(cfg.Upstreams), "upstream"), models, count(len(cfg.Limits), "limit"))
	return nil
}

// count is a number of things, each of which has that name.
func count(n int, name string) string {
	if n == 1 {
		return "1 " + name
	}
	return fmt.Sprintf("%d %ss", n, name)
}

// checkCertificate sees that the files of the public listener's certificate belong
// together: Envoy would only say that it never became ready.
func checkCertificate(cfg *config.Config) error {
	if cfg.TLS == nil {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile); err != nil {
		return fmt.Errorf("tls: %s and %s are not a certificate and its key: %w", cfg.TLS.CertFile, cfg.TLS.KeyFile, err)
	}
	return nil
}

// checkParts builds what the configuration describes, and of one with mistakes what they
// do not concern. Files that are not there are told elsewhere.
func checkParts(cfg *config.Config, sound bool, log zerolog.Logger) (*keyring.Keyring, error) {
	keys, wrong := checkKeys(cfg, log)
	if !sound {
		return keys, wrong
	}
	there := func(err error) error {
		if missing(err) {
			return nil
		}
		return err
	}
	errs := []error{wrong, there(checkCertificate(cfg))}
	models, err := upstream.New(cfg, upstream.Options{SystemCA: envoy.SystemCA()})
	errs = append(errs, there(err))
	if err == nil {
		_, err = gateway.New(gateway.Options{Config: cfg, Models: models, Keys: keys})
		errs = append(errs, there(err))
	}
	store, err := openStore(cfg, 0, telemetry.NewMetrics(), zerolog.Nop())
	errs = append(errs, there(err))
	if err == nil {
		store.close()
	}
	if cfg.Admin.Listen != "" {
		_, err := admin.OpenToken(cfg.Admin.TokenFile)
		errs = append(errs, there(err))
	}
	_, err = envoy.Bootstrap(cfg, envoy.Sockets{GRPC: "/g", API: "/a", Admin: "/e"}, envoy.SystemCA())
	return keys, config.Join(append(errs, there(err))...)
}

// missing tells of a file that is not there, or not for us.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// checkKeys reads the key files that are there.
func checkKeys(cfg *config.Config, log zerolog.Logger) (*keyring.Keyring, error) {
	if cfg.File == "" && len(cfg.Keys.Files) == 0 {
		return keyring.Fixed(nil), nil // one is made for each run
	}
	keys, err := openKeys(cfg, log)
	if keys == nil {
		keys = keyring.Fixed(nil)
	}
	if mistakes := (*config.Mistakes)(nil); errors.As(err, &mistakes) {
		return keys, mistakes.Without(missing)
	}
	if missing(err) { // the pepper
		err = nil
	}
	return keys, err
}

// strayModels are sentences about models that keys may use and that there are not.
func strayModels(cfg *config.Config, keys *keyring.Keyring) (list []string) {
	for _, k := range keys.Ring().Keys() {
		for _, pattern := range stray(cfg, k.Models) {
			list = append(list, fmt.Sprintf("%s: key %s may use %s, which no model is called", k.File, k.ID, pattern))
		}
	}
	return list
}

// stray are those of patterns that match no model, if the configuration names them all.
func stray(cfg *config.Config, patterns []string) []string {
	var names []string
	for _, u := range cfg.Upstreams {
		switch u.Offer {
		case config.Discover:
			return nil
		case config.Catalogue:
			for _, m := range upstream.InCatalogue() {
				names = append(names, upstream.Names(m)...)
			}
		case config.Listed:
		}
	}
	for _, m := range cfg.Models {
		names = append(append(names, m.Name), m.Aliases...)
	}
	return slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool {
		k := keyring.Key{Models: []string{pattern}}
		return slices.ContainsFunc(names, k.AllowsModel)
	})
}

// envoyCmd is weir envoy.
type envoyCmd struct {
	configFlags
	Validate bool `help:"Ask Envoy whether it takes the bootstrap, instead of printing it."`
}

// Run prints the bootstrap.
func (c *envoyCmd) Run(e *env) error {
	cfg, err := c.required(e)
	if err != nil {
		return err
	}
	sockets, err := envoy.SocketsIn(runDir(e, cfg))
	if err != nil {
		return err
	}
	b, err := envoy.Bootstrap(cfg, sockets, envoy.SystemCA())
	if err != nil {
		return err
	}
	if c.Validate {
		binary, err := findEnvoy(e)
		if err != nil {
			return err
		}
		if err := envoy.Validate(e.ctx, binary, b); err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "Envoy %s takes the bootstrap of %s.\n", envoy.Version, cmp.Or(cfg.File, "the environment"))
		return nil
	}
	text, err := envoy.YAML(b)
	if err != nil {
		return fmt.Errorf("print the bootstrap: %w", err)
	}
	_, err = e.stdout.Write(text)
	return err
}

// simulateCmd is weir simulate.
type simulateCmd struct {
	Listen string   `default:"127.0.0.1:8002" placeholder:"HOST:PORT" help:"Where to listen (${default})."`
	Model  []string `sep:"none" default:"demo=text=answer,pace=20ms,ttft=150ms" placeholder:"NAME=SCRIPT" help:"A model and how it answers (${default}). May be given several times."`
	Ledger bool     `help:"Print a JSON line for each finished exchange."`
}

// Help is shown with weir simulate --help.
func (simulateCmd) Help() string {
	return "A script is members with commas between them, such as tokens=200,pace=50ms. The header x-simulate of a request changes them for that one.\n\n" +
		"\n\n    " + strings.ReplaceAll(simulator.ScriptHelp, "\n", "\n    ")
}

// Run serves the simulator until it is told to stop.
func (c *simulateCmd) Run(e *env) error {
	opts := simulator.Options{}
	for _, text := range c.Model {
		m, err := simulator.ParseModel(text)
		if err != nil {
			return usageError{err}
		}
		opts.Models = append(opts.Models, m)
	}
	if c.Ledger {
		opts.Log = e.stdout
	}
	return simulator.Serve(e.ctx, c.Listen, opts, func(addr string) {
		fmt.Fprintf(e.stderr, "The simulator answers at http://%s/v1\n", addr)
	})
}

// versionCmd is weir version.
type versionCmd struct{}

// Run prints the versions.
func (versionCmd) Run(e *env) error {
	fmt.Fprintln(e.stdout, versions())
	return nil
}

func versions() string { return fmt.Sprintf("weir %s, for Envoy %s", version, envoy.Version) }

// secureDir makes a folder for sockets, which others than the group cannot enter.
func secureDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the folder of the sockets: %w", err)
	}
	return nil
}
