package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weir-gateway/weir/smoke"
)

// smokeCmd is weir smoke.
type smokeCmd struct {
	URL     string        `arg:"" help:"Where the gateway answers, such as http://127.0.0.1:8080 or …/v1."`
	Key     string        `arg:"" optional:"" help:"A client key; - is the first line of stdin. Default: the variable WEIR_KEY, which other users of the machine do not see."`
	Model   string        `placeholder:"NAME" help:"The model to ask. Default: the first of the list."`
	Timeout time.Duration `default:"60s" placeholder:"DURATION" help:"How long each check may take (${default})."`
	Output  string        `short:"o" default:"text" enum:"text,json" help:"text or json (${default})."`
}

// Help is shown with weir smoke --help.
func (smokeCmd) Help() string {
	return `It asks as a client does, and takes two short answers of the model; everything else is refused before it costs anything.

Exit status: 0 all is well, 1 something failed, 2 wrong usage.`
}

// Run tries everything, a line a check.
func (c *smokeCmd) Run(e *env) error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageError{fmt.Errorf("%q is no URL: want one such as http://127.0.0.1:8080", c.URL)}
	}
	key, err := c.key(e)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
		// The key is for that gateway alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	results := []smoke.Result{}
	if c.Output == "text" {
		fmt.Fprintf(e.stdout, smokeRow, "CHECK", "", "TOOK", "")
	}
	ok := smoke.Run(e.ctx, smoke.Options{URL: c.URL, Key: key, Model: c.Model, Timeout: c.Timeout, Client: client}, func(r smoke.Result) {
		results = append(results, r)
		if c.Output == "text" {
			fmt.Fprintf(e.stdout, smokeRow, r.Check, r.Outcome, r.Took.Round(time.Millisecond), r.Says)
		}
	})
	if c.Output == "json" {
		if err := json.NewEncoder(e.stdout).Encode(struct {
			OK     bool           `json:"ok"`
			Checks []smoke.Result `json:"checks"`
		}{ok, results}); err != nil {
			return fmt.Errorf("print the outcome: %w", err)
		}
	}
	if !ok {
		return errNo
	}
	return nil
}

const smokeRow = "%-14s %-8v %7v  %s\n"

// key is the client key.
func (c *smokeCmd) key(e *env) (string, error) {
	switch c.Key {
	case "":
		if key, _ := e.getenv("WEIR_KEY"); key != "" {
			return key, nil
		}
		return "", usageError{errors.New("there is no client key: give one as the second argument, by stdin with -, or as the variable WEIR_KEY")}
	case "-":
		const most = 64 << 10
		text, err := io.ReadAll(io.LimitReader(e.stdin, most))
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if line = strings.TrimSpace(line); line == "" {
			return "", usageError{errors.New("stdin has no key on its first line")}
		}
		return line, nil
	}
	return c.Key, nil
}
