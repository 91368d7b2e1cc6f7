package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
)

// limitsCmd is weir limits.
type limitsCmd struct {
	Show  limitsShowCmd  `cmd:"" default:"withargs" help:"Show where limits stand."`
	Reset limitsResetCmd `cmd:"" help:"Forget what a key's limits have counted. Slots stay: they tell what runs."`
}

// hereFlags say which weir of this machine is meant, and how to print.
type hereFlags struct {
	configFlags
	RunDir string `placeholder:"DIR" help:"Folder of the running weir's sockets. Default: the configuration's run_dir."`
	Output string `short:"o" default:"text" enum:"text,json" help:"text or json (${default})."`
}

// askFlags say which running weir to ask, here or over the network.
type askFlags struct {
	hereFlags
	adminFlags
}

type limitsShowCmd struct {
	askFlags
	Key string `arg:"" optional:"" help:"Id of a key. Default: all limits in use."`
}

// Run prints a table, or JSON.
func (c *limitsShowCmd) Run(e *env) error {
	var answer admin.Limits
	raw, err := c.ask(e, http.MethodGet, "/limits?key="+url.QueryEscape(c.Key), &answer)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		_, err := e.stdout.Write(raw)
		return err
	}
	return printLimits(e.stdout, answer)
}

func printLimits(w io.Writer, l admin.Limits) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "LIMIT\tCOUNTED FOR\tUSED\tOF\tUNIT\tWINDOW\tFREE IN")
	for _, u := range l.Limits {
		name, window, reset := u.Limit, u.Window, "-"
		if u.Shadow {
			name += " (shadow)"
		}
		if window == "" {
			window = "-"
		}
		if u.ResetMS > 0 {
			reset = (time.Duration(u.ResetMS) * time.Millisecond).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintln(table, strings.Join([]string{
			name, u.Scope, strconv.FormatInt(u.Used, 10), strconv.FormatInt(u.Max, 10), u.Unit, window, reset,
		}, "\t"))
	}
	return table.Flush()
}

type limitsResetCmd struct {
	askFlags
	Key   string `arg:"" help:"Id of the key."`
	Limit string `placeholder:"NAME" help:"The limit to reset. Default: all of the key's own."`
}

// Run resets, and says how much.
func (c *limitsResetCmd) Run(e *env) error {
	var answer admin.Reset
	query := url.Values{"key": {c.Key}, "limit": {c.Limit}}
	raw, err := c.ask(e, http.MethodPost, "/limits/reset?"+query.Encode(), &answer)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		_, err := e.stdout.Write(raw)
		return err
	}
	fmt.Fprintf(e.stdout, "%d limits of key %s count from zero again.\n", answer.Reset, c.Key)
	return nil
}

// ask sends a request to the running weir and reads its answer into v, unless that is
// nil.
func (f askFlags) ask(e *env, method, path string, v any) (raw []byte, err error) {
	client, base, where, err := f.weir(e)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(e.ctx, method, base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no weir answers at %s (%w)", where, err)
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return nil, fmt.Errorf("read weir's answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return nil, f.answered(connect.NewError(connect.CodeUnauthenticated, errors.New(resp.Status)))
	case http.StatusNotFound:
		return nil, f.answered(connect.NewError(connect.CodeUnimplemented, errors.New(resp.Status)))
	default:
		var refusal admin.Error
		if json.Unmarshal(raw, &refusal) != nil || refusal.Error == "" {
			refusal.Error = resp.Status
		}
		return nil, errors.New(refusal.Error)
	}
	if v == nil {
		return raw, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("read weir's answer: %w", err)
	}
	return raw, nil
}

// weir is the running weir, by its socket on this machine or over the network.
func (f askFlags) weir(e *env) (client *http.Client, base, where string, err error) {
	if f.Admin != "" {
		client, err = f.client()
		return client, strings.TrimRight(f.Admin, "/"), f.Admin, err
	}
	socket, err := f.socket(e)
	if err != nil {
		return nil, "", "", err
	}
	client = overSocket(socket)
	client.Timeout = 10 * time.Second
	return client, "http://weir", socket + ": is it running, as this user, with this run_dir?", nil
}

// socket is where the running weir answers operators.
func (f hereFlags) socket(e *env) (string, error) {
	s, err := f.sockets(e)
	return s.Ops, err
}

// sockets are those of the running weir. What is wrong elsewhere in its configuration does
// not keep it from being asked.
func (f hereFlags) sockets(e *env) (envoy.Sockets, error) {
	dir := f.RunDir
	if dir == "" {
		cfg, err := f.partly(e, "run_dir")
		if err != nil {
			return envoy.Sockets{}, config.Join(err, errors.New("so run_dir is not known: say with --run-dir DIR where the running weir has its sockets"))
		}
		if cfg == nil {
			cfg = &config.Config{}
		}
		dir = runDir(e, cfg)
	}
	return envoy.SocketsIn(dir)
}
