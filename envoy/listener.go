package envoy

import (
	"time"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/config"
)

const (
	filterAuthz   = "envoy.filters.http.ext_authz"
	filterExtProc = "envoy.filters.http.ext_proc"

	// weir answers in microseconds; these only bound how long a stopped weir
	// can hold a request. They must outlast a garbage collection or a store's
	// timeout.
	authzTimeout   = 2 * time.Second
	messageTimeout = 5 * time.Second
	// Headers must come at once; bodies may be megabytes on a slow line.
	requestHeadersTimeout = 10 * time.Second
	requestTimeout        = 5 * time.Minute
	connectionBuffer      = 64 << 10
)

// publicListener reads routes and certificate from files in dir, unless that is "".
func publicListener(cfg *config.Config, dir string) (*listenerv3.Listener, error) {
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(connectionManager(cfg, dir))},
	}}}
	if cfg.TLS != nil {
		if chain.TransportSocket, err = tlsTransport(cfg.TLS, dir); err != nil {
			return nil, err
		}
		chain.TransportSocketConnectTimeout = durationpb.New(handshakeTimeout)
	}
	return &listenerv3.Listener{
		Name:                          "public",
		Address:                       socket(host, port),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
		TcpKeepalive:                  keepalive(),
		FilterChains:                  []*listenerv3.FilterChain{chain},
	}, nil
}

func connectionManager(cfg *config.Config, dir string) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix:                    "public",
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{reservedHeaders()},
		HttpFilters:                   []*hcmv3.HttpFilter{corsFilter(), authzFilter(), luaFilter(), extProcFilter(), routerFilter()},
		AccessLog:                     accessLogs(cfg.Envoy.AccessLog),
		LocalReplyConfig:              localReplies(cfg.Envoy.MaxRequestBytes),
		HttpProtocolOptions:           http1(),
		Http2ProtocolOptions:          http2Downstream(),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  durationpb.New(10 * time.Minute),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
			MaxHeadersCount:              wrapperspb.UInt32(maxHeaders),
		},
		MaxRequestHeadersKb:          wrapperspb.UInt32(maxHeaderKiB),
		UseRemoteAddress:             wrapperspb.Bool(true),
		XffNumTrustedHops:            cfg.Envoy.TrustedProxies,
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		RequestHeadersTimeout:        durationpb.New(requestHeadersTimeout),
		RequestTimeout:               durationpb.New(requestTimeout),
		AlwaysSetRequestIdInResponse: true,
		ServerName:                   "weir",
	}
	if dir == "" {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes(cfg, cfg.Attempted)}
	} else {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: routesName, ConfigSource: fileSource(dir, RoutesFile)}}
	}
	return m
}

// reservedHeaders removes what only weir and Envoy may set, before anything
// reads it.
func reservedHeaders() *corev3.TypedExtensionConfig {
	var mutations []*rulesv3.HeaderMutation
	for _, prefix := range []string{"x-weir-", "x-envoy-"} {
		mutations = append(mutations, &rulesv3.HeaderMutation{
			Action: &rulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{
				KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true},
			}},
		})
	}
	return &corev3.TypedExtensionConfig{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: typed(&earlyv3.HeaderMutation{Mutations: mutations}),
	}
}

// CredentialHeaders are the headers that a client may put its key into. They never
// reach an upstream.
var CredentialHeaders = []string{"authorization", "x-api-key", "api-key"}

// AuthzHeaders are the headers that authz reads.
var AuthzHeaders = append([]string{"content-encoding", "x-request-id", "traceparent", "tracestate"}, CredentialHeaders...)

// AttributeSource is the client's address and port, as Envoy's attributes name it.
const AttributeSource = "source.address"

// authzFilter asks weir who calls, on the routes that need a caller and do not lead to
// extproc, which asks that itself. It is sent the headers that tell, and no others.
func authzFilter() *hcmv3.HttpFilter {
	grpc := service(clusterAuthz, authzTimeout)
	// What ext_authz itself tells is the address of the connection.
	grpc.InitialMetadata = []*corev3.HeaderValue{{Key: SourceKey, Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}
	return filter(filterAuthz, true, typed(&authzv3.ExtAuthz{
		Services:            &authzv3.ExtAuthz_GrpcService{GrpcService: grpc},
		TransportApiVersion: corev3.ApiVersion_V3,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		EncodeRawHeaders:    true,
		AllowedHeaders:      exactly(AuthzHeaders...),
	}))
}

// extProcFilter lets weir see and change the request once its body is complete,
// and the answer. The reply to the response headers chooses how the answer's
// body is seen. Only the headers that weir reads cross the process border.
//
// It fails open: an answer outlives weir. No request gets in that way, as only weir
// can set the header that names the upstream.
func extProcFilter() *hcmv3.HttpFilter {
	grpc := service(clusterExtProc, 0)
	grpc.InitialMetadata = []*corev3.HeaderValue{{Key: ServiceKey, Value: ServiceScripted}}
	return filter(filterExtProc, true, typed(&extprocv3.ExternalProcessor{
		GrpcService:       grpc,
		MessageTimeout:    durationpb.New(messageTimeout),
		AllowModeOverride: true,
		FailureModeAllow:  true,
		// How often and how long Envoy tries is told by headers of its own.
		MutationRules: &rulesv3.HeaderMutationRules{AllowEnvoy: wrapperspb.Bool(true)},
		MetadataOptions: &extprocv3.MetadataOptions{
			ReceivingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{MetadataSpace}},
		},
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode:   extprocv3.ProcessingMode_SEND,
			RequestBodyMode:     extprocv3.ProcessingMode_BUFFERED,
			RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  extprocv3.ProcessingMode_SEND,
			ResponseBodyMode:    extprocv3.ProcessingMode_NONE,
			ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
		},
		RequestAttributes: []string{AttributeSource},
		ForwardRules: &extprocv3.HeaderForwardingRules{AllowedHeaders: exactly(append([]string{
			":path", ":authority", ":status", "content-type", "retry-after", HeaderErrorSource,
		}, AuthzHeaders...)...)},
	}))
}

func routerFilter() *hcmv3.HttpFilter {
	return filter("envoy.filters.http.router", false, typed(&routerv3.Router{SuppressEnvoyHeaders: true}))
}

// filter is an entry of the chain; a disabled one is switched on by the routes
// that want it, so that no other path reaches weir.
func filter(name string, disabled bool, cfg *anypb.Any) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, Disabled: disabled, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: cfg}}
}

// enabled switches filters on for a route.
func enabled(filters ...string) map[string]*anypb.Any {
	m := map[string]*anypb.Any{}
	for _, f := range filters {
		m[f] = typed(&routev3.FilterConfig{Config: &anypb.Any{}})
	}
	return m
}

func service(cluster string, timeout time.Duration) *corev3.GrpcService {
	s := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}}}
	if timeout > 0 {
		s.Timeout = durationpb.New(timeout)
	}
	return s
}

func exactly(names ...string) *matcherv3.ListStringMatcher {
	m := &matcherv3.ListStringMatcher{}
	for _, n := range names {
		m.Patterns = append(m.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: n}})
	}
	return m
}
