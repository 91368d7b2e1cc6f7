package envoy

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/config"
)

const (
	clusterAuthz   = "weir_authz"
	clusterExtProc = "weir_extproc"
	clusterAPI     = "weir_api"

	httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	tlsSocket   = "envoy.transport_sockets.tls"

	// upstreamKeepAlive is shorter than the 5 s after which uvicorn, and so
	// vLLM, closes an idle connection: a request must not meet that close.
	upstreamKeepAlive = 4 * time.Second
)

// ClusterOf is the name of the Envoy cluster of an upstream.
func ClusterOf(upstream string) string { return "upstream_" + upstream }

// grpcCluster reaches weir's gRPC services. authz and extproc have one each: every open
// answer holds a stream of extproc's, and looking at one's limits must not wait for that.
func grpcCluster(name, path string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(time.Second),
		LoadAssignment:                endpoint(name, pipe(path), ""),
		CircuitBreakers:               unbounded(),
		TypedExtensionProtocolOptions: options(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicit(http2())}),
	}
}

func apiCluster(path string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          clusterAPI,
		ConnectTimeout:                durationpb.New(time.Second),
		LoadAssignment:                endpoint(clusterAPI, pipe(path), ""),
		CircuitBreakers:               unbounded(),
		TypedExtensionProtocolOptions: options(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicit(http1())}),
	}
}

// attemptsOf is the name of the cluster of an upstream for requests that may take
// several attempts.
func attemptsOf(upstream string) string { return "attempts_" + upstream }

// UpstreamOf is the upstream of a cluster.
func UpstreamOf(cluster string) string {
	_, name, _ := strings.Cut(cluster, "_")
	return name
}

// attemptsCluster reaches one upstream, and asks weir about each attempt.
func attemptsCluster(u config.Upstream, systemCA string) (*clusterv3.Cluster, error) {
	return toUpstream(attemptsOf(u.Name), u, systemCA, []*hcmv3.HttpFilter{
		filter(filterExtProc, false, typed(attemptsFilter())),
		filter("envoy.filters.http.upstream_codec", false, typed(&codecv3.UpstreamCodec{})),
	})
}

// attemptsFilter lets weir choose the key of an attempt, and learn from how it
// went. weir tells by the exchange's id which request it is.
func attemptsFilter() *extprocv3.ExternalProcessor {
	grpc := service(clusterExtProc, 0)
	grpc.InitialMetadata = []*corev3.HeaderValue{{Key: ServiceKey, Value: ServiceAttempts}}
	return &extprocv3.ExternalProcessor{
		GrpcService:       grpc,
		MessageTimeout:    durationpb.New(messageTimeout),
		AllowModeOverride: true,
		StatusOnError:     &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		MutationRules:     &rulesv3.HeaderMutationRules{AllowAllRouting: wrapperspb.Bool(true)}, // the path
		RequestAttributes: []string{AttributeAttempt, AttributeCluster},
		MetadataOptions: &extprocv3.MetadataOptions{
			ForwardingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{MetadataSpace}},
			ReceivingNamespaces:  &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{MetadataSpace}},
		},
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode:   extprocv3.ProcessingMode_SEND,
			ResponseHeaderMode:  extprocv3.ProcessingMode_SEND,
			RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
			ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
		},
		ForwardRules: &extprocv3.HeaderForwardingRules{AllowedHeaders: exactly(
			":path", ":status", "retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
		)},
	}
}

// upstreamCluster reaches one upstream.
func upstreamCluster(u config.Upstream, systemCA string) (*clusterv3.Cluster, error) {
	return toUpstream(ClusterOf(u.Name), u, systemCA, nil)
}

func toUpstream(name string, u config.Upstream, systemCA string, filters []*hcmv3.HttpFilter) (*clusterv3.Cluster, error) {
	host, port, err := hostPort(u.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
	}
	http := &httpv3.HttpProtocolOptions{
		HttpFilters:               filters,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(upstreamKeepAlive)},
		UpstreamProtocolOptions:   explicit(http1()),
	}
	c := &clusterv3.Cluster{
		Name:            name,
		ConnectTimeout:  durationpb.New(u.Connect),
		LoadAssignment:  endpoint(name, socket(host, port), u.URL.Host),
		CircuitBreakers: unbounded(),
	}
	if net.ParseIP(host) == nil {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.DnsLookupFamily = clusterv3.Cluster_ALL
	}
	if u.URL.Scheme == "https" {
		c.TransportSocket = tlsTo(host, or(u.CAFile, systemCA))
		http.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions: http1(), Http2ProtocolOptions: http2(),
		}}
	}
	c.TypedExtensionProtocolOptions = options(http)
	return c, nil
}

// tlsTo verifies the server's certificate against the bundle and its name, or its
// address: SNI has no place for one (RFC 6066, section 3).
func tlsTo(host, caFile string) *corev3.TransportSocket {
	trust := &tlsv3.CertificateValidationContext{TrustedCa: &corev3.DataSource{
		Specifier: &corev3.DataSource_Filename{Filename: caFile},
	}}
	t := &tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: trust}},
	}
	if net.ParseIP(host) == nil {
		t.Sni, t.AutoSniSanValidation = host, true
	} else {
		trust.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}},
		}}
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(t)}}
}

func hostPort(u *url.URL) (host string, port uint32, err error) {
	text := u.Port()
	if text == "" {
		text = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("url %q: the port must be a number from 1 to 65535", u)
	}
	return u.Hostname(), uint32(n), nil
}

// endpoint is the only member of a cluster; hostname becomes the Host header.
func endpoint(cluster string, addr *corev3.Address, hostname string) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addr, Hostname: hostname}},
		}}}},
	}
}

// unbounded takes Envoy's own caps of 1 024 requests and 3 retries away: limits
// are weir's, and every open answer holds a request.
func unbounded() *clusterv3.CircuitBreakers {
	most := wrapperspb.UInt32(math.MaxInt32)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: most, MaxPendingRequests: most, MaxRequests: most, MaxRetries: most,
	}}}
}

func options(o *httpv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptions: typed(o)}
}

func explicit(protocol proto.Message) *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	c := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch p := protocol.(type) {
	case *corev3.Http1ProtocolOptions:
		c.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: p}
	case *corev3.Http2ProtocolOptions:
		c.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: p}
	}
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: c}
}

func http1() *corev3.Http1ProtocolOptions { return &corev3.Http1ProtocolOptions{} }
func http2() *corev3.Http2ProtocolOptions { return &corev3.Http2ProtocolOptions{} }

// SystemCA finds the machine's CA bundle; "" when there is none at the places
// where distributions keep it.
func SystemCA() string {
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",             // openSUSE
		"/etc/ssl/cert.pem",                  // macOS
	} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
