package envoy

import (
	"math"
	"net/http"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	prioritygroupv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/router/cluster_specifiers/priority_group/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
)

// routesName is what the listener calls its routes.
const routesName = "public"

// routes are those of a configuration; attempted tells which upstreams take requests
// of several attempts.
func routes(cfg *config.Config, attempted func(config.Upstream) bool) *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{
		Name:                   "weir",
		Domains:                []string{"*"},
		RequestBodyBufferLimit: wrapperspb.UInt64(uint64(cfg.Envoy.MaxRequestBytes)),
	}
	var several []config.Upstream
	for _, u := range cfg.Upstreams {
		host.Routes = append(host.Routes, admitted(u))
		if attempted(u) {
			several = append(several, u)
		}
	}
	if several != nil {
		host.Routes = append(host.Routes, admittedAttempts(several))
	}
	for _, ep := range openai.Endpoints() {
		host.Routes = append(host.Routes, tooLarge(ep, cfg.Envoy.MaxRequestBytes), entry(ep.Path()), notAllowed(ep, exactPath(ep.Path()), http.MethodPost))
	}
	for _, path := range []*routev3.RouteMatch{exactPath("/v1/models"), prefixPath("/v1/models/"), exactPath("/v1/key")} {
		host.Routes = append(host.Routes, own(path, filterAuthz), notAllowed(openai.Unknown, path, http.MethodGet))
	}
	for _, path := range []*routev3.RouteMatch{exactPath("/health"), exactPath("/openapi.json"), exactPath("/docs"), prefixPath("/docs/"), exactPath("/redoc")} {
		host.Routes = append(host.Routes, own(path), notAllowed(openai.Unknown, path, http.MethodGet))
	}
	host.Routes = append(host.Routes,
		refused(prefixPath(openai.Messages.Path()+"/"), unknownURL().For(openai.Messages, "")),
		refused(prefixPath("/"), unknownURL()))
	allowOrigins(host, cfg.Origins)
	return &routev3.RouteConfiguration{Name: routesName, VirtualHosts: []*routev3.VirtualHost{host}}
}

// admitted is the way of requests that extproc let pass to u.
func admitted(u config.Upstream) *routev3.Route {
	match := prefixPath("/v1/")
	match.Headers = []*routev3.HeaderMatcher{exactHeader(HeaderCluster, ClusterOf(u.Name))}
	action := &routev3.RouteAction{
		ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: ClusterOf(u.Name)},
		HostRewriteSpecifier: &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)},
		Timeout:              durationpb.New(total(u)), // an answer may stream for as long as it flows
		IdleTimeout:          durationpb.New(silence(u)),
		RetryPolicy:          retries(),
	}
	action.RetryPolicy.PerTryTimeout = durationpb.New(u.Idle) // until the answer begins
	if base := u.URL.EscapedPath(); base != "/v1" {
		action.PrefixRewrite = base + "/"
	}
	return forwarded("admitted_"+u.Name, match, action)
}

func forwarded(name string, match *routev3.RouteMatch, action *routev3.RouteAction) *routev3.Route {
	return &routev3.Route{
		Name: name, Match: match,
		Action:                 &routev3.Route_Route{Route: action},
		TypedPerFilterConfig:   enabled(filterExtProc),
		RequestHeadersToRemove: internalHeaders(),
		// Applied before ext_proc adds weir's own.
		ResponseHeadersToRemove: foreignHeaders(),
	}
}

// slack is how much later than weir Envoy acts on a timeout: weir can tell the
// client in the middle of a stream.
const slack = 5 * time.Second

// silence is how long an upstream may say nothing at all: a plain answer is
// silence until it is there.
func silence(u config.Upstream) time.Duration { return max(u.Idle, u.FirstByte, u.Total) + slack }

// total is how long an answer may take; 0 is without end.
func total(u config.Upstream) time.Duration {
	if u.Total == 0 {
		return 0
	}
	return u.Total + slack
}

// mostRetries is more than any request makes: weir ends them.
const mostRetries = 100

// admittedAttempts is the way of requests that may take several attempts. extproc
// says for each where it goes, in dynamic metadata, and on an answer that it wants
// another; the order of the groups here is for requests of which it said nothing,
// and there are none.
func admittedAttempts(list []config.Upstream) *routev3.Route {
	match := prefixPath("/v1/")
	match.Headers = []*routev3.HeaderMatcher{exactHeader(HeaderCluster, Attempted)}
	order := &prioritygroupv3.PriorityGroupClusterSpecifier{OverrideMetadataNamespace: MetadataSpace}
	var idle, whole, first time.Duration
	endless := false
	for _, u := range list {
		order.PriorityGroups = append(order.PriorityGroups, &prioritygroupv3.PriorityGroup{
			Name: u.Name, Clusters: []*prioritygroupv3.ClusterWeight{{ClusterName: attemptsOf(u.Name), Weight: wrapperspb.UInt32(1)}},
		})
		idle, whole, first = max(idle, silence(u)), max(whole, total(u)), max(first, u.Idle)
		endless = endless || u.Total == 0
	}
	if endless {
		whole = 0
	}
	return forwarded("admitted_attempts", match, &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_InlineClusterSpecifierPlugin{InlineClusterSpecifierPlugin: &routev3.ClusterSpecifierPlugin{
			Extension: &corev3.TypedExtensionConfig{Name: "envoy.router.cluster_specifier_plugin.priority_group", TypedConfig: typed(order)},
		}},
		HostRewriteSpecifier: &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)},
		Timeout:              durationpb.New(whole),
		IdleTimeout:          durationpb.New(idle),
		RetryPolicy: &routev3.RetryPolicy{
			RetryOn:               "connect-failure,refused-stream,reset-before-request,reset,retriable-headers",
			NumRetries:            wrapperspb.UInt32(mostRetries),
			PerTryTimeout:         durationpb.New(first),
			RefreshClusterOnRetry: true,
			// Where there is to be a pause weir makes it.
			RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(time.Millisecond), MaxInterval: durationpb.New(time.Millisecond)},
			RetriableHeaders: []*routev3.HeaderMatcher{{
				Name: HeaderRetry, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
			}},
		},
	})
}

// retries repeats only what the upstream cannot have begun to work on.
func retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:      "connect-failure,refused-stream,reset-before-request",
		NumRetries:   wrapperspb.UInt32(1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(25 * time.Millisecond)},
	}
}

// entry leads a path to extproc. No cluster has the name that an absent header
// gives, so a request that was not admitted ends here with 503.
func entry(path string) *routev3.Route {
	match := exactPath(path)
	match.Headers = []*routev3.HeaderMatcher{exactHeader(":method", http.MethodPost)}
	return &routev3.Route{
		Name: "entry" + path, Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: HeaderCluster},
			Timeout:          durationpb.New(0),
		}},
		TypedPerFilterConfig: enabled(filterExtProc, filterLua),
	}
}

// tooLarge refuses what says that it is larger than weir takes. Envoy would refuse it
// by itself, but not before as much has come as it takes, and then not always: where
// that fills its buffer to the byte it reads no further, and waits.
func tooLarge(ep openai.Endpoint, limit uint32) *routev3.Route {
	match := exactPath(ep.Path())
	match.Headers = []*routev3.HeaderMatcher{exactHeader(":method", http.MethodPost), {
		Name: "content-length", HeaderMatchSpecifier: &routev3.HeaderMatcher_RangeMatch{
			RangeMatch: &typev3.Int64Range{Start: int64(limit) + 1, End: math.MaxInt64},
		},
	}}
	r := refused(match, requestTooLarge(limit).For(ep, ""))
	r.TypedPerFilterConfig = enabled(filterAuthz)
	return r
}

// own is an endpoint that weir answers itself.
func own(match *routev3.RouteMatch, filters ...string) *routev3.Route {
	match = &routev3.RouteMatch{PathSpecifier: match.GetPathSpecifier(), Headers: []*routev3.HeaderMatcher{{
		Name: ":method",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "GET|HEAD"}},
		}},
	}}}
	return &routev3.Route{
		Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterAPI},
			Timeout:          durationpb.New(10 * time.Second),
		}},
		TypedPerFilterConfig: enabled(filters...),
	}
}

// unknownURL answers what is not served.
func unknownURL() *openai.Error {
	var list strings.Builder
	for _, ep := range openai.Endpoints() {
		list.WriteString("POST " + ep.Path() + ", ")
	}
	return &openai.Error{
		Status: http.StatusNotFound, Type: openai.TypeInvalidRequest, Code: openai.CodeUnknownURL,
		Message: "Unknown request URL. This gateway serves " + list.String() + "GET /v1/models, GET /v1/models/{id}, GET /v1/key, GET /health and GET /docs; check the method and the base URL, which ends in /v1 for OpenAI's SDKs and without it for Anthropic's.",
	}
}

func notAllowed(ep openai.Endpoint, match *routev3.RouteMatch, allow string) *routev3.Route {
	e := &openai.Error{
		Status: http.StatusMethodNotAllowed, Type: openai.TypeInvalidRequest, Allow: allow,
		Message: "This URL does not take that method: use " + allow + ".",
	}
	return refused(match, e.For(ep, ""))
}

// refused answers without asking weir.
func refused(match *routev3.RouteMatch, e *openai.Error) *routev3.Route {
	r := &routev3.Route{
		Match: match,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: uint32(e.Status),
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: string(e.Body())}},
		}},
	}
	for _, h := range e.Headers() {
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, setHeader(h.Name, h.Value))
	}
	return r
}

// internalHeaders are for weir and Envoy, not for upstreams; nor is it theirs
// who the clients are.
func internalHeaders() []string {
	return []string{
		"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", HeaderKey, HeaderCluster, "x-envoy-external-address", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count", "cookie",
		// vLLM lets these choose an engine.
		"x-data-parallel-rank", "x-session-id",
	}
}

// foreignHeaders are what upstreams say of themselves, of their limits and of
// metering: for the gateway, not for its clients.
func foreignHeaders() []string {
	list := []string{HeaderErrorSource, HeaderRetry, "x-weir-model", "x-weir-overhead-ms", "set-cookie", "x-request-id", "retry-after-ms", "x-should-retry"}
	for _, what := range []string{"limit", "remaining", "reset"} {
		list = append(list, "x-ratelimit-"+what, "x-ratelimit-"+what+"-requests", "x-ratelimit-"+what+"-tokens")
	}
	return append(list, corsOfUpstreams()...)
}

func exactPath(path string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}}
}

func prefixPath(prefix string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
}

func exactHeader(name, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}},
	}}
}

func setHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
