package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/keyring"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/protoprint"
)

// configPage is the page of the configuration.
type configPage struct {
	File     string // "": the built-in demo
	Text     string // YAML, masked
	Loaded   time.Time
	Error    string // why the newest state of the file is not in force
	Keys     int
	KeysRead time.Time
	KeyError string // why the newest key files are not in force
	Force    bool   // they would be if they were forced to
}

func (d *Dashboard) config(r *http.Request) (*view, error) {
	resp, err := d.opts.Services.Config.Show(r.Context(), connect.NewRequest(&adminv1.ShowConfigRequest{}))
	if err != nil {
		return nil, err
	}
	text, err := protoprint.YAML(resp.Msg.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	keys := d.opts.Keys()
	b := configPage{File: resp.Msg.GetFile(), Text: string(text), Keys: keys.Keys, KeysRead: keys.Loaded}
	if keys.Err != nil {
		b.KeyError = sentence(keys.Err)
		vanished := (*keyring.VanishedError)(nil)
		b.Force = errors.As(keys.Err, &vanished)
	}
	if d.opts.Loaded != nil {
		var trouble error
		if b.Loaded, trouble = d.opts.Loaded(); trouble != nil {
			b.Error = trouble.Error()
		}
	}
	return &view{Template: "config", Title: "Config", Section: "config", Every: 10 * time.Second, Body: b}, nil
}

func (d *Dashboard) reloadConfig(r *http.Request) (to string, t told, err error) {
	to = root + "/config"
	resp, err := d.opts.Services.Config.Reload(r.Context(), connect.NewRequest(&adminv1.ReloadConfigRequest{Force: r.PostForm.Get("force") != ""}))
	if err != nil {
		return to, t, err
	}
	m := resp.Msg
	lines := []string{fmt.Sprintf("Read again: %s in force.", plural(m.GetKeys(), "client key"))}
	if m.GetConfigError() != "" {
		lines = append(lines, "weir.yaml was not taken: see below.")
	}
	if m.GetUpstreamKeysError() != "" {
		lines = append(lines, "Upstream keys were not all read: "+m.GetUpstreamKeysError())
	}
	if len(m.GetNeedRestart()) > 0 {
		lines = append(lines, "These settings take effect when weir starts the next time: "+strings.Join(m.GetNeedRestart(), ", ")+".")
	}
	return to, told{Text: strings.Join(lines, " "), Bad: m.GetConfigError() != "" || m.GetUpstreamKeysError() != ""}, nil
}
