package config

import (
	"fmt"
	"net"
	"regexp"
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
	for i, u := range msg.GetUpstreams() {
		if u.GetName() != MegaLLM {
			continue
		}
		at := fmt.Sprintf("upstreams[%d]", i)
		if v, ok := p.variableOf(getenv, "MEGALLM_BASE_URL", at+".url"); ok {
			u.Url = v // the schema's rules look at it
		}
		if v, ok := p.variableOf(getenv, "MEGALLM_TIMEOUT", at+".timeouts.total"); ok {
			p.overrideTimeout(u, at+".timeouts.total", v)
		}
		if u.Keys != nil {
			p.overrideRetry(u.Keys, at+".keys.retry", getenv)
		}
	}
}

// span is a duration as weir.yaml has it.
var span = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)

func (p *problems) overrideTimeout(u *configv1.Upstream, path, v string) {
	seconds, err := strconv.ParseFloat(v, 64)
	switch {
	case err == nil && seconds > 0 && seconds < 1e9:
		v = strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
	case !span.MatchString(v):
		p.addf(path, "must be a number of seconds such as 120, or a duration such as 90s or 2m")
		return
	}
	if u.Timeouts == nil {
		u.Timeouts = &configv1.Timeouts{}
	}
	u.Timeouts.Total = v
}

func (p *problems) overrideRetry(keys *configv1.UpstreamKeys, at string, getenv func(string) (string, bool)) {
	if keys.Retry == nil {
		keys.Retry = &configv1.Retry{}
	}
	for _, f := range []struct {
		name, path string
		field      *uint32
	}{{"MEGALLM_MAX_RETRIES", at + ".tries", &keys.Retry.Tries}, {"MAX_KEY_RETRIES", at + ".keys", &keys.Retry.Keys}} {
		const most = 10 // of the schema
		v, ok := p.variableOf(getenv, f.name, f.path)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n == 0 || n > most {
			p.addf(f.path, "must be a number from 1 to %d", most)
			continue
		}
		*f.field = uint32(n)
	}
}

// overrideListen takes PORT, and HOST if it is an address: in some shells it is the
// machine's name.
func (p *problems) overrideListen(msg *configv1.Config, getenv func(string) (string, bool)) {
	host, port, err := net.SplitHostPort(or(msg.GetListen(), DefaultListen))
	if err != nil {
		return // reported by the schema's rules
	}
	if v, ok := getenv("HOST"); ok && (net.ParseIP(strings.TrimSpace(v)) != nil || strings.TrimSpace(v) == "localhost") {
		host = strings.TrimSpace(v)
	}
	if v, ok := p.variableOf(getenv, "PORT", "listen"); ok {
		if _, err := strconv.ParseUint(v, 10, 16); err != nil {
			p.addf("listen", "must be a port from 0 to 65535")
			return
		}
		port = v
	}
	msg.Listen = net.JoinHostPort(host, port)
}

// variableOf is the value of a variable that stands for the field at path, if it has one.
func (p *problems) variableOf(getenv func(string) (string, bool), name, path string) (value string, ok bool) {
	value, ok = getenv(name)
	if value = strings.TrimSpace(value); !ok || value == "" {
		return "", false
	}
	p.values[path] = origin{name: name, value: tellable(name, value), whole: true}
	return value, true
}

// secretName is how variables are called that hold secrets.
var secretName = regexp.MustCompile(`(?i)key|secret|token|pass|cred|pepper|auth`)

// tellable is the value of a variable as a message may show it: "" for one that is, or
// may by mistake be, a secret.
func tellable(name, value string) string {
	const longest = 200
	switch {
	case strings.HasPrefix(value, "sk-"), len(value) > longest:
		return ""
	case name != "MAX_KEY_RETRIES" && secretName.MatchString(name):
		return ""
	}
	if strings.Contains(value, "@") || strings.Contains(value, "?") {
		value, _, _ = strings.Cut(userinfo.ReplaceAllString(value, "//…@"), "?")
	}
	return value
}
