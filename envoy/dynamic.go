package envoy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/weir-gateway/weir/config"
)

// Files in the folder of the sockets, from which a running Envoy reads.
const (
	// BootstrapFile is what Envoy is started with.
	BootstrapFile = "envoy.yaml"
	// ClustersFile and RoutesFile are read again whenever they are replaced:
	// discovery responses, see Envoy's "file-based dynamic configuration".
	ClustersFile = "clusters.json"
	RoutesFile   = "routes.json"
)

// Resources are the parts of Envoy's configuration that may change while it runs:
// the upstreams' clusters, and the routes.
type Resources struct {
	Clusters []*clusterv3.Cluster
	Routes   *routev3.RouteConfiguration
}

// Dynamic renders them. Retired upstreams are those that the configuration has no
// longer, but requests may still be on their way to. Each upstream has both of its
// clusters, so that none goes away when another comes.
func Dynamic(cfg *config.Config, retired []config.Upstream, systemCA string) (*Resources, error) {
	all := *cfg
	all.Upstreams = append(append([]config.Upstream(nil), cfg.Upstreams...), retired...)
	r := &Resources{Routes: routes(&all, func(config.Upstream) bool { return true })}
	var err error
	if r.Clusters, err = upstreamClusters(&all, systemCA, func(config.Upstream) bool { return true }); err != nil {
		return nil, err
	}
	errs := []error{r.Routes.ValidateAll()}
	for _, c := range r.Clusters {
		errs = append(errs, c.ValidateAll())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("routes or clusters break Envoy's own rules: %w", err)
	}
	return r, nil
}

// Version names the content.
func (r *Resources) Version() string {
	h := sha256.New()
	for _, m := range r.messages() {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(fmt.Sprintf("marshal %T: %v", m, err)) // as in typed
		}
		fmt.Fprintf(h, "%d ", len(text))
		h.Write(text)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func (r *Resources) messages() []proto.Message {
	list := []proto.Message{r.Routes}
	for _, c := range r.Clusters {
		list = append(list, c)
	}
	return list
}

// Write puts the resources where Envoy reads them, each file at once. Clusters come
// first: routes lead to them.
func (r *Resources) Write(dir string) error {
	version := r.Version()
	clusters := &discoveryv3.DiscoveryResponse{VersionInfo: version}
	for _, c := range r.Clusters {
		clusters.Resources = append(clusters.Resources, typed(c))
	}
	if err := writeResponse(filepath.Join(dir, ClustersFile), clusters); err != nil {
		return err
	}
	return writeResponse(filepath.Join(dir, RoutesFile), &discoveryv3.DiscoveryResponse{
		VersionInfo: version, Resources: []*anypb.Any{typed(r.Routes)},
	})
}

func writeResponse(file string, m *discoveryv3.DiscoveryResponse) error {
	text, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("print %s: %w", filepath.Base(file), err)
	}
	return replace(file, text)
}

// replace gives a file another content at once. Envoy, of the folder's group, may
// read it.
func replace(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("write Envoy's configuration: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o640), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write Envoy's configuration: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// WriteFiles writes the files that a running Envoy reads into the folder of the sockets,
// and returns the bootstrap that leads there. The clusters that lead to weir are in the
// bootstrap: to change the one of ext_proc would cut every answer.
func WriteFiles(cfg *config.Config, sockets Sockets, systemCA string) (*bootstrapv3.Bootstrap, *Resources, error) {
	dir := filepath.Dir(sockets.Admin)
	b, err := bootstrap(cfg, sockets, nil, dir)
	if err != nil {
		return nil, nil, err
	}
	r, err := Dynamic(cfg, nil, systemCA)
	if err != nil {
		return nil, nil, err
	}
	if cfg.TLS != nil {
		if err := writeSecret(cfg.TLS, dir); err != nil {
			return nil, nil, err
		}
	}
	return b, r, r.Write(dir)
}

// WriteBootstrap puts a bootstrap into the folder of Envoy's admin socket, as
// [BootstrapFile], and returns its path. replaced tells that another one was there, with
// which an Envoy may be running.
func WriteBootstrap(b *bootstrapv3.Bootstrap) (file string, replaced bool, err error) {
	file = filepath.Join(filepath.Dir(b.GetAdmin().GetAddress().GetPipe().GetPath()), BootstrapFile)
	text, err := YAML(b)
	if err != nil {
		return "", false, fmt.Errorf("print the bootstrap: %w", err)
	}
	old, err := os.ReadFile(file)
	if err == nil && bytes.Equal(old, text) {
		return file, false, nil
	}
	return file, err == nil, replace(file, text)
}

func fileSource(dir, name string) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
			Path: filepath.Join(dir, name), WatchedDirectory: &corev3.WatchedDirectory{Path: dir},
		}},
	}
}

// Why Envoy does not work with what was written.
var (
	ErrRejected = errors.New("Envoy does not take the new routes or upstreams; its own log says why")
	ErrFixed    = errors.New("this Envoy was started with a bootstrap that holds its routes and upstreams, as `weir envoy` prints it: " +
		"start it with " + BootstrapFile + " of run_dir to change them while it runs, or start it again")
)

// Discovery follows how Envoy takes what it reads from files.
type Discovery struct {
	admin    *Admin
	rejected int // files, before
}

// Discovery begins to follow; to be called before the files are written. It fails with
// ErrFixed for an Envoy that reads none.
func (a *Admin) Discovery(ctx context.Context) (*Discovery, error) {
	d, err := a.discovered(ctx)
	if err == nil && d.clusters == "" && d.routes == "" {
		err = ErrFixed
	}
	return &Discovery{admin: a, rejected: d.rejected}, err
}

// Accepted waits until Envoy works with the resources of that version, and has
// resolved the names of all upstreams. It fails with ErrRejected where Envoy does not
// take them, and when ctx ends.
func (w *Discovery) Accepted(ctx context.Context, version string) error {
	for {
		d, err := w.admin.discovered(ctx)
		switch {
		case err != nil:
			return err
		case d.clusters == version && d.routes == version && d.warming == 0:
			return nil
		case d.rejected > w.rejected:
			return ErrRejected
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("Envoy has not taken the new routes and upstreams yet: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// discovered is how far Envoy has come with what it reads from files.
type discovered struct {
	clusters, routes  string // versions
	warming, rejected int    // clusters; files, since Envoy's start
}

func (a *Admin) discovered(ctx context.Context) (discovered, error) {
	var d discovered
	body, err := a.call(ctx, "GET", `/stats?filter=^(cluster_manager\.cds\.(version_text|update_rejected)|cluster_manager\.warming_clusters|http\.public\.rds\.public\.(version_text|update_rejected))$`)
	if err != nil {
		return d, err
	}
	for line := range strings.Lines(string(body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch value = strings.Trim(value, `"`); {
		case name == "cluster_manager.cds.version_text":
			d.clusters = value
		case strings.HasSuffix(name, ".version_text"):
			d.routes = value
		default:
			n := 0
			if _, err := fmt.Sscan(value, &n); err != nil {
				return d, fmt.Errorf("read Envoy's statistics: %s: %w", name, err)
			}
			if strings.HasSuffix(name, ".update_rejected") {
				d.rejected += n
			} else {
				d.warming = n
			}
		}
	}
	return d, nil
}
