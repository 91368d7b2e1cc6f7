package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
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
	file, err := c.required(e)
	if err != nil {
		return err
	}
	cfg, err := config.Load(file, e.getenv)
	if err != nil {
		return said(e, err)
	}
	var unwise []string
	if err := checkParts(cfg, warnings(func(text string) { unwise = append(unwise, text) })); err != nil {
		return said(e, err)
	}
	unwise = append(unwise, unsafe(cfg)...)
	for _, text := range unwise {
		fmt.Fprintln(e.stderr, "warning:", text)
	}
	if c.Strict && len(unwise) > 0 {
		return errNo
	}
	fmt.Fprintf(e.stdout, "%s is fine: %d upstreams, %d models, %d limits.\n", file, len(cfg.Upstreams), len(cfg.Models), len(cfg.Limits))
	return nil
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

// checkParts builds what the configuration describes.
func checkParts(cfg *config.Config, log zerolog.Logger) error {
	if err := checkCertificate(cfg); err != nil {
		return err
	}
	keys, err := openKeys(cfg, log)
	if err != nil {
		return err
	}
	models, err := upstream.New(cfg, upstream.Options{SystemCA: envoy.SystemCA()})
	if err != nil {
		return err
	}
	if _, err := gateway.New(gateway.Options{Config: cfg, Models: models, Keys: keys}); err != nil {
		return err
	}
	store, err := openStore(cfg, 0, telemetry.NewMetrics(), zerolog.Nop())
	if err != nil {
		return err
	}
	store.close()
	if cfg.Admin.Listen != "" {
		if _, err := admin.OpenToken(cfg.Admin.TokenFile); err != nil {
			return err
		}
	}
	_, err = envoy.Bootstrap(cfg, envoy.Sockets{GRPC: "/g", API: "/a", Admin: "/e"}, envoy.SystemCA())
	return err
}

// said prints what is wrong as it is, a problem a line.
func said(e *env, err error) error {
	fmt.Fprintln(e.stderr, err)
	return errNo
}

// envoyCmd is weir envoy.
type envoyCmd struct {
	configFlags
	Validate bool `help:"Ask Envoy whether it takes the bootstrap, instead of printing it."`
}

// Run prints the bootstrap.
func (c *envoyCmd) Run(e *env) error {
	file, err := c.required(e)
	if err != nil {
		return err
	}
	cfg, err := config.Load(file, e.getenv)
	if err != nil {
		return said(e, err)
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
		fmt.Fprintf(e.stdout, "Envoy %s takes the bootstrap of %s.\n", envoy.Version, file)
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
	fmt.Fprintf(e.stdout, "weir %s, for Envoy %s\n", version, envoy.Version)
	return nil
}

// secureDir makes a folder for sockets, which others than the group cannot enter.
func secureDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the folder of the sockets: %w", err)
	}
	return nil
}
