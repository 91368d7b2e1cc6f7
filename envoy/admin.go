package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Admin speaks to Envoy's admin interface.
type Admin struct{ client *http.Client }

// NewAdmin returns an Admin for the interface at that Unix socket.
func NewAdmin(path string) *Admin {
	return &Admin{client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
}

// Ready returns nil once Envoy takes requests.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodGet, "/ready")
	return err
}

// Drain stops taking connections; open ones go on.
func (a *Admin) Drain(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodPost, "/drain_listeners")
	return err
}

// Fail has Envoy ask clients to use their connections no further, while it takes new
// ones.
func (a *Admin) Fail(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodPost, "/healthcheck/fail")
	return err
}

// Active counts clients' requests that have not ended.
func (a *Admin) Active(ctx context.Context) (n int, err error) {
	body, err := a.call(ctx, http.MethodGet, `/stats?filter=^http\.public\.downstream_rq_active$`)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(string(body), "http.public.downstream_rq_active: %d", &n); err != nil {
		return 0, fmt.Errorf("read Envoy's statistics: %q: %w", body, err)
	}
	return n, nil
}

// Stats returns Envoy's own metrics, in Prometheus' text format.
func (a *Admin) Stats(ctx context.Context) ([]byte, error) {
	return a.call(ctx, http.MethodGet, "/stats/prometheus")
}

// Quit ends Envoy, and every connection.
func (a *Admin) Quit(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodPost, "/quitquitquit")
	return err
}

// Dump returns Envoy's whole configuration as JSON.
func (a *Admin) Dump(ctx context.Context) ([]byte, error) {
	return a.call(ctx, http.MethodGet, "/config_dump?include_eds")
}

// Listening returns host:port of the public listener, which tells the port that
// the kernel chose when the configuration says 0.
func (a *Admin) Listening(ctx context.Context) (string, error) {
	body, err := a.call(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return "", err
	}
	var answer struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint32 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("read Envoy's listeners: %w", err)
	}
	for _, l := range answer.Statuses {
		if l.Name == "public" {
			return net.JoinHostPort(l.Address.Socket.Address, fmt.Sprint(l.Address.Socket.Port)), nil
		}
	}
	return "", fmt.Errorf("Envoy has no listener named public: %s", body)
}

func (a *Admin) call(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy's admin interface: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read from Envoy's admin interface: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Envoy's admin interface answered %s to %s", resp.Status, path)
	}
	return body, nil
}
