package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/upstream/pool"
)

const (
	checkEvery   = 5 * time.Second
	checkTimeout = 4 * time.Second
	maxList      = 4 << 20 // bytes of a list of models
	maxModels    = 1000    // that are taken from it: each can become a label of metrics
)

// checker asks one server how it does.
type checker struct {
	server *Server
	client *http.Client
}

func newChecker(s *Server, systemCA string) (*checker, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: s.Connect}).DialContext,
		TLSHandshakeTimeout: checkTimeout,
		MaxIdleConns:        1,
		IdleConnTimeout:     4 * time.Second,
	}
	if file := s.CAFile; file != "" || systemCA != "" {
		if file == "" {
			file = systemCA
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", file)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &checker{server: s, client: &http.Client{
		Transport: transport, Timeout: checkTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// follow checks the server until ctx ends. A server of one's own is checked all
// the time; a hosted one with a pool of keys only while it does not answer.
func (c *checker) follow(ctx context.Context) error {
	defer c.client.CloseIdleConnections()
	for {
		if c.server.Pool == nil || c.server.Down() {
			if answered := c.alive(ctx); ctx.Err() == nil {
				c.server.Checked(answered)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(jittered(checkEvery)):
		}
	}
}

// jittered is d, give or take a fifth, so that replicas do not ask all at once.
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

// alive asks for /health of the server's root, which vLLM and llama.cpp have. Any
// answer but a server's error will do: other servers do not know the path. It needs
// no key.
func (c *checker) alive(ctx context.Context) bool {
	root := *c.server.URL
	root.Path, root.RawPath = "/health", ""
	status, _, err := c.get(ctx, &root, "")
	return err == nil && status < 500
}

// models asks for the server's models.
func (c *checker) models(ctx context.Context) ([]config.Model, error) {
	secret, done, err := c.credential()
	if err != nil {
		return nil, err
	}
	status, text, err := c.get(ctx, c.server.URL.JoinPath("models"), secret)
	done(status, err)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("GET %s/models: status %d", c.server.URL, status)
	}
	return readModels(text)
}

// credential is what the server is to be shown, and what to call with the status
// of its answer, or why there is none.
func (c *checker) credential() (config.Secret, func(status int, err error), error) {
	if c.server.Pool == nil {
		return c.server.Credential, func(int, error) {}, nil
	}
	lease, err := c.server.Pool.Pick(nil, nil)
	if err != nil {
		return "", nil, err
	}
	return lease.Key().Secret, func(status int, err error) { lease.Done(outcome(status, err)) }, nil
}

// outcome is what an answer of that status, or none for that reason, says of a key.
func outcome(status int, err error) pool.Outcome {
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return pool.Outcome{Class: pool.Connect}
	case errors.As(err, &timeout) && timeout.Timeout():
		return pool.Outcome{Class: pool.Timeout}
	case err != nil:
		return pool.Outcome{Class: pool.Disconnect}
	}
	return pool.Outcome{Class: pool.ClassOf(status, ""), Status: status}
}

// probe tries a key that was refused.
func (c *checker) probe(ctx context.Context, key pool.Key) pool.Outcome {
	status, _, err := c.get(ctx, c.server.URL.JoinPath("models"), key.Secret)
	if err != nil {
		return pool.Outcome{Class: pool.Aborted} // it says nothing of the key
	}
	return outcome(status, nil)
}

func (c *checker) get(ctx context.Context, u *url.URL, secret config.Secret) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, nil, err
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret.Reveal())
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxList))
	return resp.StatusCode, body, err
}

// readModels reads OpenAI's list of models, with the windows that vLLM and others
// add to it.
func readModels(text []byte) ([]config.Model, error) {
	var list struct {
		Data []struct {
			ID            string `json:"id"`
			MaxModelLen   int64  `json:"max_model_len"`  // vLLM
			ContextLength int64  `json:"context_length"` // OpenRouter and others
			ContextWindow int64  `json:"context_window"` // Groq and others
			Meta          struct {
				Window int64 `json:"n_ctx"` // llama.cpp
			} `json:"meta"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the list of models is not OpenAI's: %w", err)
	}
	var models []config.Model
	for _, m := range list.Data {
		if !named(m.ID) || len(models) == maxModels {
			continue
		}
		window := max(m.MaxModelLen, m.ContextLength, m.ContextWindow, m.Meta.Window, 0)
		models = append(models, config.Model{Name: m.ID, Context: window})
	}
	if len(models) == 0 {
		return nil, errors.New("the list of models is empty")
	}
	return models, nil
}

// named tells whether a model's name is one that weir.yaml could have too: it goes
// into headers, limits and metrics.
func named(id string) bool {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == unicode.ReplacementChar }
	return id != "" && len(id) <= 256 && !strings.ContainsFunc(id, odd)
}
