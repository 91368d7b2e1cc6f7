package envoy

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	fileloggerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	stdoutv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/config"
)

const (
	// maxHeaders and maxHeaderKiB bound a request's headers.
	maxHeaders   = 100
	maxHeaderKiB = 60
	// handshakeTimeout is how long a TLS handshake may take.
	handshakeTimeout = 10 * time.Second
	// pingEvery and pingTimeout find HTTP/2 clients that are gone without a word.
	pingEvery, pingTimeout = 30 * time.Second, 20 * time.Second
	// probeAfter, probeEvery and probes do for TCP connections.
	probeAfter, probeEvery, probes = 60, 20, 3 // s, s, count

	heapMonitor       = "envoy.resource_monitors.fixed_heap"
	connectionMonitor = "envoy.resource_monitors.global_downstream_max_connections"

	tlsSecret = "public"
	// SecretFile leads Envoy to the certificate; it is read at its start.
	SecretFile = "tls.json"
)

// overload says what Envoy does when it becomes full: first it gives memory back, then
// it closes connections after their request, then it refuses requests, at last it takes
// no connections.
func overload(limits *config.Envoy) *overloadv3.OverloadManager {
	m := &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{Name: heapMonitor, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: typed(&heapv3.FixedHeapConfig{
				MaxHeapSizeBytes: cmp.Or(limits.MaxHeapBytes, config.DefaultMaxHeapBytes),
			})}},
			{Name: connectionMonitor, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: typed(&downstreamv3.DownstreamConnectionsConfig{
				MaxActiveDownstreamConnections: int64(cmp.Or(limits.MaxConnections, config.DefaultMaxConnections)),
			})}},
		},
	}
	for _, a := range []struct {
		action string
		share  float64 // of the heap
	}{
		{"shrink_heap", 0.85}, {"disable_http_keepalive", 0.90}, {"stop_accepting_requests", 0.95}, {"stop_accepting_connections", 0.98},
	} {
		m.Actions = append(m.Actions, &overloadv3.OverloadAction{
			Name: "envoy.overload_actions." + a.action,
			Triggers: []*overloadv3.Trigger{{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Threshold{
				Threshold: &overloadv3.ThresholdTrigger{Value: a.share},
			}}},
		})
	}
	return m
}

// tlsTransport serves TLS with the certificate of the configuration. Its files are named
// as they are; where Envoy follows files of weir's it reads them again when they change,
// see watchCertificate.
func tlsTransport(t *config.TLS) (*corev3.TransportSocket, error) {
	certificate, err := certificateFiles(t)
	if err != nil {
		return nil, err
	}
	return tlsSocketOf(&tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{certificate}}), nil
}

func tlsSocketOf(common *tlsv3.CommonTlsContext) *corev3.TransportSocket {
	common.AlpnProtocols = []string{"h2", "http/1.1"}
	common.TlsParams = &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: typed(&tlsv3.DownstreamTlsContext{CommonTlsContext: common}),
	}}
}

// certificateFiles names the files by absolute paths: Envoy's folder is another.
func certificateFiles(t *config.TLS) (*tlsv3.TlsCertificate, error) {
	var files [2]*corev3.DataSource
	for i, name := range []string{t.CertFile, t.KeyFile} {
		path, err := filepath.Abs(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		files[i] = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
	}
	return &tlsv3.TlsCertificate{CertificateChain: files[0], PrivateKey: files[1]}, nil
}

// watchCertificate has a listener take its certificate from a secret that names the
// files, and writes that secret into dir. Envoy reads the files again when something in
// the certificate's folder is renamed, as by certbot, or when a mounted secret changes.
func watchCertificate(t *config.TLS, dir string) (*corev3.TransportSocket, error) {
	certificate, err := certificateFiles(t)
	if err != nil {
		return nil, err
	}
	certificate.WatchedDirectory = &corev3.WatchedDirectory{Path: filepath.Dir(certificate.CertificateChain.GetFilename())}
	secret := &tlsv3.Secret{Name: tlsSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: certificate}}
	err = writeResponse(filepath.Join(dir, SecretFile), &discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{typed(secret)}})
	return tlsSocketOf(&tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{
		{Name: tlsSecret, SdsConfig: fileSource(dir, SecretFile)},
	}}), err
}

// keepalive finds clients that are gone without a word.
func keepalive() *corev3.TcpKeepalive {
	return &corev3.TcpKeepalive{
		KeepaliveTime: wrapperspb.UInt32(probeAfter), KeepaliveInterval: wrapperspb.UInt32(probeEvery), KeepaliveProbes: wrapperspb.UInt32(probes),
	}
}

func http2Downstream() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        wrapperspb.UInt32(100),
		InitialStreamWindowSize:     wrapperspb.UInt32(64 << 10),
		InitialConnectionWindowSize: wrapperspb.UInt32(1 << 20),
		ConnectionKeepalive: &corev3.KeepaliveSettings{
			Interval: durationpb.New(pingEvery), Timeout: durationpb.New(pingTimeout),
			IntervalJitter: &typev3.Percent{Value: 15},
		},
	}
}

// accessLogs are where Envoy tells of requests: weir, of natively metered answers that
// broke off, and people, in JSON.
func accessLogs(to string) []*accesslogv3.AccessLog {
	list := []*accesslogv3.AccessLog{departures()}
	format := &corev3.SubstitutionFormatString{
		OmitEmptyValues: true,
		Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: accessLogFormat()},
	}
	switch to {
	case "":
	case config.Stdout:
		list = append(list, &accesslogv3.AccessLog{Name: "envoy.access_loggers.stdout", ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: typed(&stdoutv3.StdoutAccessLog{AccessLogFormat: &stdoutv3.StdoutAccessLog_LogFormat{LogFormat: format}}),
		}})
	default:
		list = append(list, &accesslogv3.AccessLog{Name: "envoy.access_loggers.file", ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: typed(&fileloggerv3.FileAccessLog{Path: to, AccessLogFormat: &fileloggerv3.FileAccessLog_LogFormat{LogFormat: format}}),
		}})
	}
	return list
}

// accessLogFormat names what a line holds. Query strings do not: clients put secrets
// there, if wrongly.
func accessLogFormat() *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for name, operator := range map[string]string{
		"time": "START_TIME", "request_id": "REQ(X-REQUEST-ID)", "client": "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
		"method": "REQ(:METHOD)", "path": "PATH(NQ)", "protocol": "PROTOCOL", "tls": "DOWNSTREAM_TLS_VERSION", "user_agent": "REQ(USER-AGENT)",
		"status": "RESPONSE_CODE", "details": "RESPONSE_CODE_DETAILS", "flags": "RESPONSE_FLAGS",
		"bytes_in": "BYTES_RECEIVED", "bytes_out": "BYTES_SENT", "duration_ms": "DURATION", "first_byte_ms": "RESPONSE_DURATION",
		"attempts": "UPSTREAM_REQUEST_ATTEMPT_COUNT",
	} {
		s.Fields[name] = structpb.NewStringValue("%" + operator + "%")
	}
	for _, name := range []string{NoteKey, NoteModel, NoteUpstream, NoteInput, NoteOutput} {
		s.Fields[name] = structpb.NewStringValue("%DYNAMIC_METADATA(" + MetadataSpace + ":" + name + ")%")
	}
	return s
}
