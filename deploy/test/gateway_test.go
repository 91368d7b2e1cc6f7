package deploytest

import (
	"slices"
	"strings"
	"testing"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	gwapiv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/weir-gateway/weir/envoy"
)

// TestEnvoyGateway reads the example for Envoy Gateway with its own types, none of whose
// fields may be unknown, and sees that its parts belong together.
func TestEnvoyGateway(t *testing.T) {
	var (
		config    corev1.ConfigMap
		proxy     egv1a1.EnvoyProxy
		traffic   egv1a1.ClientTrafficPolicy
		security  egv1a1.SecurityPolicy
		extension egv1a1.EnvoyExtensionPolicy
	)
	names, routes := map[string]bool{}, map[string]gwapiv1.HTTPRoute{}
	for text := range strings.SplitSeq(string(read(t, root+"/deploy/envoy-gateway/weir.yaml")), "\n---\n") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatal(err)
		}
		var route gwapiv1.HTTPRoute
		into := map[string]any{
			"ConfigMap": &config, "EnvoyProxy": &proxy, "ClientTrafficPolicy": &traffic, "SecurityPolicy": &security,
			"EnvoyExtensionPolicy": &extension, "HTTPRoute": &route, "Backend": &egv1a1.Backend{},
			"GatewayClass": &gwapiv1.GatewayClass{}, "Gateway": &gwapiv1.Gateway{},
		}[head.Kind]
		if into == nil {
			t.Fatalf("kind %q", head.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%s %s: %v", head.Kind, head.Metadata.Name, err)
		}
		names[head.Kind+" "+head.Metadata.Name] = true
		if head.Kind == "HTTPRoute" {
			routes[head.Metadata.Name] = route
		}
	}
	checkConfig(t, config.Data["weir.yaml"])
	for _, target := range slices.Concat(security.Spec.TargetRefs, extension.Spec.TargetRefs) {
		if !names["HTTPRoute "+string(target.Name)] {
			t.Errorf("a policy is of the route %s, and there is none", target.Name)
		}
	}
	backends := []gwapiv1.BackendObjectReference{
		security.Spec.ExtAuth.GRPC.BackendRefs[0].BackendObjectReference,
		extension.Spec.ExtProc[0].BackendRefs[0].BackendObjectReference,
	}
	for _, route := range routes {
		for _, rule := range route.Spec.Rules {
			for _, b := range rule.BackendRefs {
				backends = append(backends, b.BackendObjectReference)
			}
		}
	}
	for _, b := range backends {
		if !names["Backend "+string(b.Name)] {
			t.Errorf("there is no backend %s", b.Name)
		}
	}
	if security.Spec.ExtAuth.FailOpen == nil || *security.Spec.ExtAuth.FailOpen || *extension.Spec.ExtProc[0].FailOpen {
		t.Error("a policy fails open")
	}
	for _, header := range envoy.AuthzHeaders {
		if !slices.Contains(security.Spec.ExtAuth.HeadersToExtAuth, header) {
			t.Errorf("authz is not told %s", header)
		}
	}
	for _, header := range []string{envoy.HeaderKey, envoy.HeaderCluster} {
		if !slices.Contains(traffic.Spec.Headers.EarlyRequestHeaders.Remove, header) {
			t.Errorf("clients may set %s", header)
		}
	}
	checkWay(t, routes["weir"].Spec.Rules)
}

// checkWay sees that what comes in leads nowhere, and that weir's word leads on, from the
// same paths.
func checkWay(t *testing.T, rules []gwapiv1.HTTPRouteRule) {
	t.Helper()
	if len(rules) != 2 || len(rules[1].BackendRefs) != 0 || len(rules[0].BackendRefs) != 1 || len(rules[0].Matches) != len(rules[1].Matches) {
		t.Fatalf("rules %+v", rules)
	}
	for i, m := range rules[0].Matches {
		if len(m.Headers) != 1 || string(m.Headers[0].Name) != envoy.HeaderCluster || m.Headers[0].Value != envoy.ClusterOf("engine") {
			t.Errorf("headers %+v lead to the upstream", m.Headers)
		}
		if *m.Path.Value != *rules[1].Matches[i].Path.Value || *m.Path.Type != gwapiv1.PathMatchExact {
			t.Errorf("path %s leads to the upstream", *m.Path.Value)
		}
	}
}
