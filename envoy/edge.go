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
	// trackedPower is the least memory of a request that is reset when Envoy is full,
	// as a power of two: 1 MiB.
	trackedPower = 20
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

// overload says what Envoy does when its heap becomes full: first it gives memory back,
// then it closes connections after their request, then it refuses requests, and ends
// those over HTTP/2 that hold the most memory, such as bodies that never become complete
// (of HTTP/1.1 Envoy keeps no account). Streams that flow hold little. Connections are
// taken all the time: a client that is refused is better off than one that hears nothing.
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
		{"shrink_heap", 0.85}, {"disable_http_keepalive", 0.90}, {"stop_accepting_requests", 0.95},
	} {
		m.Actions = append(m.Actions, &overloadv3.OverloadAction{
			Name: "envoy.overload_actions." + a.action,
			Triggers: []*overloadv3.Trigger{{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Threshold{
				Threshold: &overloadv3.ThresholdTrigger{Value: a.share},
			}}},
		})
	}
	m.BufferFactoryConfig = &overloadv3.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: trackedPower}
	m.Actions = append(m.Actions, &overloadv3.OverloadAction{
		Name: "envoy.overload_actions.reset_high_memory_stream",
		Triggers: []*overloadv3.Trigger{{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Scaled{
			Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: 0.95, SaturationThreshold: 1},
		}}},
	})
	return m
}

// tlsTransport serves TLS with the certificate of the configuration: with its files, or
// where dir is not "", with the secret that [WriteFiles] puts there.
func tlsTransport(t *config.TLS, dir string) (*corev3.TransportSocket, error) {
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{"h2", "http/1.1"},
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
	}
	if dir == "" {
		c, err := certificate(t)
		if err != nil {
			return nil, err
		}
		common.TlsCertificates = []*tlsv3.TlsCertificate{c}
	} else {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{{Name: tlsSecret, SdsConfig: fileSource(dir, SecretFile)}}
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: typed(&tlsv3.DownstreamTlsContext{CommonTlsContext: common}),
	}}, nil
}

// certificate names the files by absolute paths: Envoy's folder may be another.
func certificate(t *config.TLS) (*tlsv3.TlsCertificate, error) {
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

// writeSecret leads Envoy to the certificate, whose files it reads again when something
// is renamed in their folder, as certbot does, and as mounted secrets change.
func writeSecret(t *config.TLS, dir string) error {
	c, err := certificate(t)
	if err != nil {
		return err
	}
	c.WatchedDirectory = &corev3.WatchedDirectory{Path: filepath.Dir(c.CertificateChain.GetFilename())}
	secret := &tlsv3.Secret{Name: tlsSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: c}}
	return writeResponse(filepath.Join(dir, SecretFile), &discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{typed(secret)}})
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

// accessLogs are where Envoy tells of requests: weir, of answers to be metered natively
// that broke off, and people, in JSON.
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
