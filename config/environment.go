package config

import (
	"net"
	"strconv"
	"strings"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// MegaLLM is the name of the upstream that the variables MEGALLM_* speak of.
const MegaLLM = "megallm"

// override lets the environment have the last word, under names that services
// like this one have used for long: HOST and PORT of the public listener, and
// MEGALLM_BASE_URL, MEGALLM_TIMEOUT (in seconds), MEGALLM_MAX_RETRIES and
// MAX_KEY_RETRIES of the upstream megallm.
func (p *problems) override(msg *configv1.Config, getenv func(string) (string, bool)) {
	p.overrideListen(msg, getenv)
	for _, u := range msg.GetUpstreams() {
		if u.GetName() != MegaLLM {
			continue
		}
		if v := variableOf(getenv, "MEGALLM_BASE_URL"); v != "" {
			u.Url = v
		}
		if v := variableOf(getenv, "MEGALLM_TIMEOUT"); v != "" {
			if u.Timeouts == nil {
				u.Timeouts = &configv1.Timeouts{}
			}
			u.Timeouts.Total = v
			if seconds, err := strconv.ParseFloat(v, 64); err == nil {
				u.Timeouts.Total = strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
			}
		}
		if u.Keys != nil {
			p.overrideRetry(u.Keys, getenv)
		}
	}
}

func (p *problems) overrideRetry(keys *configv1.UpstreamKeys, getenv func(string) (string, bool)) {
	if keys.Retry == nil {
		keys.Retry = &configv1.Retry{}
	}
	for name, field := range map[string]*uint32{"MEGALLM_MAX_RETRIES": &keys.Retry.Tries, "MAX_KEY_RETRIES": &keys.Retry.Keys} {
		v := variableOf(getenv, name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n == 0 {
			p.addf("", "the environment variable %s must be a number from 1 to 10, and is %q", name, v)
			continue
		}
		*field = uint32(n)
	}
}

// overrideListen takes PORT, and HOST if it is an address: in some shells it is the
// machine's name.
func (p *problems) overrideListen(msg *configv1.Config, getenv func(string) (string, bool)) {
	host, port, err := net.SplitHostPort(or(msg.GetListen(), DefaultListen))
	if err != nil {
		return // reported by the schema's rules
	}
	if v := variableOf(getenv, "HOST"); net.ParseIP(v) != nil || v == "localhost" {
		host = v
	}
	if v := variableOf(getenv, "PORT"); v != "" {
		if _, err := strconv.ParseUint(v, 10, 16); err != nil {
			p.addf("", "the environment variable PORT must be a port from 0 to 65535, and is %q", v)
			return
		}
		port = v
	}
	msg.Listen = net.JoinHostPort(host, port)
}

func variableOf(getenv func(string) (string, bool), name string) string {
	v, ok := getenv(name)
	if !ok {
		return ""
	}
	return strings.TrimSpace(v)
}
