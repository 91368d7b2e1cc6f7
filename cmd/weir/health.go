package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// healthCmd is weir health.
type healthCmd struct {
	hereFlags
	Live    bool          `help:"Ask only whether the process runs: a weir that stops is fine too."`
	Timeout time.Duration `default:"5s" placeholder:"DURATION" help:"How long to wait for the answer (${default})."`
	URL     string        `arg:"" optional:"" placeholder:"URL" help:"What to ask instead of this machine's weir: host:port, or a URL without a path, of weir's public address or of a simulator."`
}

// Run asks, and exits 0 if the answer is 200.
func (c *healthCmd) Run(e *env) error {
	client, target, err := c.target(e)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return usageError{fmt.Errorf("ask %s: %w", target, err)}
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers: %w", err)
	}
	defer resp.Body.Close()
	const most = 1 << 20 // bytes of an answer
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return c.tell(e, resp, raw)
}

// tell prints the answer: a word and a line for each part that is not well, or with -o
// json the whole of it.
func (c *healthCmd) tell(e *env, resp *http.Response, raw []byte) error {
	var answer healthAnswer
	isJSON := json.Unmarshal(raw, &answer) == nil
	if answer.Status == "" {
		answer.Status = strings.ToLower(http.StatusText(resp.StatusCode))
	}
	switch {
	case c.Output == "json" && isJSON:
		fmt.Fprintln(e.stdout, strings.TrimSpace(string(raw)))
	case c.Output == "json":
		text, err := json.Marshal(struct {
			Status string `json:"status"`
		}{answer.Status})
		if err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
		fmt.Fprintln(e.stdout, string(text))
	default:
		fmt.Fprintln(e.stdout, strings.Join(append([]string{answer.Status}, answer.troubles()...), "\n"))
	}
	if resp.StatusCode != http.StatusOK {
		return errNo
	}
	return nil
}

// healthAnswer is what is read of an answer.
type healthAnswer struct {
	Status string `json:"status"`
	Parts  struct {
		Store struct {
			Status string  `json:"status"`
			Away   float64 `json:"away_seconds"`
		} `json:"store"`
		Config struct {
			Status string `json:"status"`
		} `json:"config"`
		Keys struct {
			Status string `json:"status"`
		} `json:"keys"`
		Upstreams []struct {
			Name    string `json:"name"`
			Status  string `json:"status"`
			Keys    int    `json:"keys"`
			KeyFile struct {
				Status string `json:"status"`
				Place  string `json:"place"`
			} `json:"key_file"`
		} `json:"upstreams"`
	} `json:"parts"`
}

// troubles are the parts that are not well.
func (h *healthAnswer) troubles() (lines []string) {
	says := func(format string, args ...any) { lines = append(lines, clip(fmt.Sprintf(format, args...), 0)) }
	if h.Status == "unavailable" && len(h.Parts.Upstreams) == 0 {
		says("upstreams: there are none")
	}
	for _, u := range h.Parts.Upstreams {
		switch u.Status {
		case "down":
			says("upstream %s: down: it does not answer", u.Name)
		case "no_keys":
			says("upstream %s: no keys: none of its %d can be used (weir pool status)", u.Name, u.Keys)
		case "resting":
			says("upstream %s: resting: none of its %d keys can be used now, one can soon (weir pool status)", u.Name, u.Keys)
		}
		if u.KeyFile.Status == "stale" {
			says("upstream %s: key file stale: %s: it was not taken, the keys before are in force", u.Name, u.KeyFile.Place)
		}
	}
	if h.Parts.Store.Status == "away" {
		away := time.Duration(h.Parts.Store.Away * float64(time.Second)).Round(time.Second)
		says("store: Redis has been away for %v: limits do what their on_store_failure says", away)
	}
	if h.Parts.Config.Status == "stale" {
		says("weir.yaml: stale: the newest was not taken (weir check)")
	}
	if h.Parts.Keys.Status == "stale" {
		says("client keys: stale: the newest files have a mistake (weir keys list)")
	}
	return lines
}

// target is where health is asked: over the network, or at the socket by which Envoy
// reaches weir.
func (c *healthCmd) target(e *env) (client *http.Client, target string, err error) {
	query := ""
	if c.Live {
		query = "live"
	}
	if c.URL == "" {
		sockets, err := c.sockets(e)
		return overSocket(sockets.API), "http://weir/health?" + query, err
	}
	text := c.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, "", usageError{errors.New("want host:port or a URL without a path, such as http://127.0.0.1:8080, and got " + c.URL)}
	}
	u.Path, u.RawQuery = "/health", query
	return &http.Client{}, u.String(), nil
}

// overSocket is a client of whoever serves a Unix socket.
func overSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}
