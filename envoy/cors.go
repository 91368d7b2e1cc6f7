package envoy

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const filterCORS = "envoy.filters.http.cors"

// corsFilter stands first: browsers ask without a key whether they may ask, and have
// to be told too why something was refused. It is there where a host has a policy.
func corsFilter() *hcmv3.HttpFilter { return filter(filterCORS, true, typed(&corsv3.Cors{})) }

// What browsers let a page send and read. The official SDKs have many headers of their
// own, which change; a star covers them in browsers where it may stand beside others,
// which all of today's are.
const (
	corsMethods = "GET, HEAD, POST"
	corsHeaders = "authorization, content-type, x-api-key, api-key, openai-organization, openai-project, openai-beta, " +
		"anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, x-stainless-arch, x-stainless-async, x-stainless-helper-method, " +
		"x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, " +
		"x-stainless-timeout, *"
	corsMaxAge = "3600" // seconds
)

// corsExposed are the headers of answers that a page may read.
func corsExposed() string {
	list := []string{"x-request-id", "retry-after", "retry-after-ms", "x-should-retry", HeaderErrorSource, "x-weir-model", "x-weir-overhead-ms", "x-weir-limits"}
	for _, what := range []string{"limit", "remaining", "reset"} {
		list = append(list, "x-ratelimit-"+what+"-requests", "x-ratelimit-"+what+"-tokens")
	}
	return strings.Join(list, ", ")
}

// allowOrigins lets pages of those origins call what a host serves. Envoy's filter does
// nothing where a route answers by itself: preflights get a route that it does see, and
// refusals are there twice, once with what the filter would add.
func allowOrigins(host *routev3.VirtualHost, origins []string) {
	if len(origins) == 0 {
		return
	}
	policy := &corsv3.CorsPolicy{AllowMethods: corsMethods, AllowHeaders: corsHeaders, ExposeHeaders: corsExposed(), MaxAge: corsMaxAge}
	policy.AllowOriginStringMatch = []*matcherv3.StringMatcher{oneOf(origins)}
	host.TypedPerFilterConfig = map[string]*anypb.Any{filterCORS: typed(policy)}
	// What was stored for a page of one origin would be of no use to another's.
	host.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{
		Header: &corev3.HeaderValue{Key: "vary", Value: "origin"}, AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}}
	from := &routev3.HeaderMatcher{Name: "origin", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: oneOf(origins)}}
	all := []*routev3.Route{preflight(from)}
	for _, r := range host.GetRoutes() {
		if r.GetDirectResponse() != nil {
			all = append(all, refusedTo(from, r))
		}
		all = append(all, r)
	}
	host.Routes = all
}

// oneOf matches those origins. A star is every one.
func oneOf(origins []string) *matcherv3.StringMatcher {
	pattern := ".*"
	if !slices.Contains(origins, "*") {
		quoted := make([]string, len(origins))
		for i, o := range origins {
			quoted[i] = regexp.QuoteMeta(o)
		}
		pattern = strings.Join(quoted, "|")
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pattern}}}
}

// preflight is where Envoy's filter answers what pages of origins that may call ask
// before they do. Others' are answered as all that is not served.
func preflight(from *routev3.HeaderMatcher) *routev3.Route {
	match := prefixPath("/")
	match.Headers = []*routev3.HeaderMatcher{
		exactHeader(":method", http.MethodOptions), from,
		{Name: "access-control-request-method", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}},
	}
	return &routev3.Route{
		Name: "preflight", Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterAPI}}},
	}
}

// refusedTo is a refusal that a page can read. It needs no key: nothing but the route
// can tell the page why.
func refusedTo(from *routev3.HeaderMatcher, r *routev3.Route) *routev3.Route {
	r = proto.CloneOf(r)
	r.TypedPerFilterConfig = nil
	r.Match.Headers = append(r.Match.Headers, from)
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd,
		setHeader("access-control-allow-origin", "%REQ(origin)%"), setHeader("access-control-expose-headers", corsExposed()))
	return r
}

// corsOfUpstreams are headers that some servers answer to everybody. Who may call is
// weir's to say.
func corsOfUpstreams() []string {
	return []string{
		"access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods", "access-control-allow-headers",
		"access-control-expose-headers", "access-control-max-age", "access-control-allow-private-network",
	}
}
