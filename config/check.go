package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// check adds the problems that no single field can tell.
func (p *problems) check(c *Config) {
	p.checkUpstreams(c)
	p.checkModels(c)
	p.checkLimits("limits", c.Limits)
	p.checkPlans(c)
	for name, limits := range c.Plans {
		p.checkLimits(fmt.Sprintf("plans[%q].limits", name), limits)
	}
	if c.MetricsListen != "" && sameAddress(c.Listen, c.MetricsListen) {
		p.addf("metrics.listen", "is the address of listen too%s: choose another port", p.says("listen"))
	}
	for _, other := range []string{c.Listen, c.MetricsListen} {
		if c.Admin.Listen != "" && other != "" && sameAddress(other, c.Admin.Listen) {
			p.addf("admin.listen", "is the address of listen or metrics.listen too: choose another port")
		}
	}
}

func (p *problems) checkUpstreams(c *Config) {
	seen := map[string]int{}
	for i, u := range c.Upstreams {
		at := fmt.Sprintf("upstreams[%d]", i)
		if first, ok := seen[u.Name]; ok && u.Name != "" {
			p.addf(at+".name", "upstreams[%d] has this name already", first)
			continue
		}
		seen[u.Name] = i
		if u.URL.Hostname() == "" {
			p.addf(at+".url", "must be an http:// or https:// URL with a host, such as http://127.0.0.1:8002/v1")
		}
		if u.Key != "" && u.KeyFile != "" {
			p.addf(at+".key_file", "key is given too: keep one of them")
		}
		if u.Pool != nil && (u.Key != "" || u.KeyFile != "") {
			p.addf(at+".keys", "key or key_file is given too: keep one of them")
		}
		if u.Total > 0 && u.FirstByte > u.Total && u.FirstByte != u.Idle {
			p.addf(at+".timeouts.first_byte", "is longer than total, which is %v%s", u.Total, p.says(at+".timeouts.total"))
		}
		p.checkPool(at+".keys", u.Pool)
		if u.CAFile != "" && u.URL.Scheme != "https" {
			p.addf(at+".ca_file", "goes with an https:// url")
		}
	}
}

// checkPool finds keys that stand twice.
func (p *problems) checkPool(path string, pool *Pool) {
	if pool == nil {
		return
	}
	keys, labels := map[Secret]int{}, map[string]int{}
	for i, k := range pool.Keys {
		at := fmt.Sprintf("%s.list[%d]", path, i)
		if first, ok := keys[k.Key]; ok && k.Key != "" {
			p.addf(at+".key", "list[%d] is this key already", first)
		}
		if first, ok := labels[k.Label]; ok && k.Label != "" {
			p.addf(at+".label", "list[%d] has this label already", first)
		}
		keys[k.Key], labels[k.Label] = i, i
	}
}

func (p *problems) checkModels(c *Config) {
	offered := slices.ContainsFunc(c.Upstreams, func(u Upstream) bool { return u.Offer != Listed })
	if len(c.Models) == 0 && !offered {
		p.addf("models", "name at least one model, or give an upstream models: discover")
	}
	owner := map[string]string{}
	claim := func(path, name, model string) {
		if other, ok := owner[name]; ok && name != "" {
			p.addf(path, "is a name of the model %q already", other)
			return
		}
		owner[name] = model
	}
	for i, m := range c.Models {
		at := fmt.Sprintf("models[%d]", i)
		claim(at+".name", m.Name, m.Name)
		for j, alias := range m.Aliases {
			claim(fmt.Sprintf("%s.aliases[%d]", at, j), alias, m.Name)
		}
		for j, name := range m.Upstreams {
			if _, ok := c.Upstream(name); !ok && name != "" {
				p.addf(fmt.Sprintf("%s.upstreams[%d]", at, j), "no upstream has this name; there are: %s", names(c.Upstreams))
			}
		}
		for name := range m.ServedAs {
			p.isOneOf(fmt.Sprintf("%s.served_as[%q]", at, name), name, m.Upstreams)
		}
		var sum uint32
		for name, weight := range m.Weights {
			p.isOneOf(fmt.Sprintf("%s.weights[%q]", at, name), name, m.Upstreams)
			sum += weight
		}
		if len(m.Weights) > 0 && sum == 0 {
			p.addf(at+".weights", "are all 0: no request could begin anywhere")
		}
		if m.Context > 0 && m.MaxOutput > m.Context {
			p.addf(at+".max_output", "is more than the context window of %d tokens", m.Context)
		}
	}
	if _, ok := owner[c.DefaultModel]; c.DefaultModel != "" && c.DefaultModel != NoModel && !ok && !offered {
		p.addf("default_model", "no model has this name or alias")
	}
}

// isOneOf tells of the name of an upstream that a model does not have.
func (p *problems) isOneOf(path, name string, upstreams []string) {
	if !slices.Contains(upstreams, name) {
		p.addf(path, "is not among the model's upstreams: %s", strings.Join(upstreams, ", "))
	}
}

func (p *problems) checkLimits(path string, limits []Limit) {
	seen := map[string]bool{}
	for i, l := range limits {
		at := fmt.Sprintf("%s[%d]", path, i)
		if seen[l.Name] && l.Name != "" {
			p.addf(at+".name", "another limit of this list has this name: rename one")
		}
		seen[l.Name] = true
		if l.Burst > 0 && l.Burst < l.Amount {
			p.addf(at+".burst", "is less than the rate's amount of %d, so it could never be used up", l.Amount)
		}
		if l.Window > 30*24*time.Hour {
			p.addf(at, "the window is longer than 30 days")
		}
	}
}

// checkPlans finds limits for plans that there are not.
func (p *problems) checkPlans(c *Config) {
	for i, l := range c.Limits {
		if _, ok := c.Plans[l.WhenPlan]; l.WhenPlan != "" && !ok {
			p.addf(fmt.Sprintf("limits[%d].when.plan", i), "no plan has this name")
		}
	}
}

// checkTimezones finds time zones that this machine does not know.
func (p *problems) checkTimezones(m *configv1.Config) {
	p.timezones("limits", m.GetLimits())
	for name, plan := range m.GetPlans() {
		p.timezones(fmt.Sprintf("plans[%q].limits", name), plan.GetLimits())
	}
}

func (p *problems) timezones(path string, limits []*configv1.Limit) {
	for i, l := range limits {
		if _, err := time.LoadLocation(l.GetTimezone()); err != nil {
			p.addf(fmt.Sprintf("%s[%d].timezone", path, i), "no time zone has this name; there are for example UTC, Europe/Berlin, America/New_York")
		}
	}
}

func names(list []Upstream) string {
	all := make([]string, len(list))
	for i, u := range list {
		all[i] = u.Name
	}
	return strings.Join(all, ", ")
}

// sameAddress reports whether two listeners would clash.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	every := func(h string) bool { return h == "0.0.0.0" || h == "::" || h == "" }
	return hostA == hostB || every(hostA) || every(hostB)
}
