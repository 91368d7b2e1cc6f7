package envoy

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"buf.build/go/protoyaml"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/weir-gateway/weir/config"
)

// Sockets are the Unix sockets between Envoy and weir.
type Sockets struct {
	GRPC  string // weir's ext_authz and ext_proc
	API   string // weir's own HTTP endpoints
	Admin string // Envoy's admin interface
	Ops   string // weir's interface for operators
}

// maxSocketPath is the room of sockaddr_un.sun_path on Linux, less its final zero.
const maxSocketPath = 107

// SocketsIn names the sockets of that folder.
func SocketsIn(dir string) (Sockets, error) {
	s := Sockets{
		GRPC: filepath.Join(dir, "grpc.sock"), API: filepath.Join(dir, "api.sock"),
		Admin: filepath.Join(dir, "envoy.sock"), Ops: filepath.Join(dir, "ops.sock"),
	}
	if n := len(s.Admin); n > maxSocketPath {
		return s, fmt.Errorf("run_dir %q is too long for a Unix socket: %s has %d bytes, at most %d fit", dir, s.Admin, n, maxSocketPath)
	}
	return s, nil
}

// Bootstrap renders the configuration. systemCA is the CA bundle for https
// upstreams that name none; see [SystemCA].
func Bootstrap(cfg *config.Config, sockets Sockets, systemCA string) (*bootstrapv3.Bootstrap, error) {
	ups, err := upstreamClusters(cfg, systemCA, cfg.Attempted)
	if err != nil {
		return nil, err
	}
	return bootstrap(cfg, sockets, ups, "")
}

// bootstrap renders what is not in files of their own, which are in the folder dir; ""
// is for all in one.
func bootstrap(cfg *config.Config, sockets Sockets, upstreams []*clusterv3.Cluster, dir string) (*bootstrapv3.Bootstrap, error) {
	listener, err := publicListener(cfg, dir)
	if err != nil {
		return nil, err
	}
	clusters := []*clusterv3.Cluster{
		grpcCluster(clusterAuthz, sockets.GRPC),
		grpcCluster(clusterExtProc, sockets.GRPC),
		grpcCluster(clusterLog, sockets.GRPC),
		apiCluster(sockets.API),
	}
	clusters = append(clusters, upstreams...)
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "weir", Cluster: "weir"},
		Admin: &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{
			Pipe: &corev3.Pipe{Path: sockets.Admin, Mode: pipeMode},
		}}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Listeners: []*listenerv3.Listener{listener}, Clusters: clusters},
		OverloadManager: overload(&cfg.Envoy),
	}
	if dir != "" {
		b.DynamicResources = &bootstrapv3.Bootstrap_DynamicResources{CdsConfig: fileSource(dir, ClustersFile)}
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("the bootstrap breaks Envoy's own rules: %w", err)
	}
	return b, nil
}

// upstreamClusters are the clusters of all upstreams; attempted tells which have one
// for requests of several attempts.
func upstreamClusters(cfg *config.Config, systemCA string, attempted func(config.Upstream) bool) ([]*clusterv3.Cluster, error) {
	var clusters []*clusterv3.Cluster
	for _, u := range cfg.Upstreams {
		c, err := upstreamCluster(u, systemCA)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, c)
		if attempted(u) {
			if c, err = attemptsCluster(u, systemCA); err != nil {
				return nil, err
			}
			clusters = append(clusters, c)
		}
	}
	return clusters, nil
}

// YAML prints a bootstrap as people and Envoy read it.
func YAML(b *bootstrapv3.Bootstrap) ([]byte, error) {
	return protoyaml.MarshalOptions{Indent: 2, UseProtoNames: true}.Marshal(b)
}

// typed packs a message of Envoy's API. It fails only for messages that hold
// invalid UTF-8, which the callers' constants do not.
func typed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(fmt.Sprintf("pack %T: %v", m, err))
	}
	return a
}

// pipeMode lets the folder's group in, no others.
const pipeMode = 0o660

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// splitListen reads host:port for a listener; an empty host is every address.
func splitListen(addr string) (host string, port uint32, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: %w", addr, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: the port must be a number up to 65535", addr)
	}
	switch {
	case host == "":
		host = "0.0.0.0"
	case host == "localhost":
		host = "127.0.0.1" // Envoy wants an address
	case net.ParseIP(host) == nil:
		return "", 0, errors.New("listen address " + strconv.Quote(addr) + ": the host must be an IP address, such as 0.0.0.0 or 127.0.0.1")
	}
	return host, uint32(n), nil
}
