package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/keyring"
)

const upstreamName = "simulator"

// weirYAML is the site that is measured: every kind of limit, none of which is
// reached, and all that writes is on. The no-op chain has it too, for its
// bootstrap.
const weirYAML = `listen: 127.0.0.1:0
run_dir: %[4]q
metrics: {listen: 127.0.0.1:0}
keys: {files: [keys.yaml]}
ledger: {file: usage.jsonl}
upstreams:
  - {name: %[1]s, url: "http://%[2]s/v1", key: sk-bench-upstream, metering: %[6]s}
  - name: pool
    url: "http://%[2]s/v1"
    keys:
      list:
        - {key: sk-bench-pool-1}
        - {key: sk-bench-pool-2}
        - {key: sk-bench-pool-3}
        - {key: sk-bench-pool-4}
        - {key: sk-bench-pool-5}
models:
  - {name: %[3]s, upstreams: [%[1]s], context: 131072}
  - {name: %[5]s, upstreams: [pool], served_as: {pool: %[3]s}, context: 131072}
limits:
  - {name: site-slots, concurrency: 10000}
  - {name: key-slots, per: [key], concurrency: 1000}
  - {name: key-rps, per: [key], requests: 1000000/s}
  - {name: key-tpm, per: [key], tokens: 10000000000/m}
  - {name: key-model-rpm, per: [key, model], requests: 100000000/m}
envoy: {concurrency: 1}
`

const keysYAML = `keys:
  - {id: caller, user: ann, team: bench, hash: %q}
  - {id: spent, user: bob, team: bench, hash: %q, limits: [{name: key-rps, per: [key], requests: 1/h}]}
`

// writeSite makes a folder with the files of a site, which counts in memory or in
// the Redis at that URL, and meters streams as told.
func writeSite(dir, upstream, redis, metering string) error {
	text := fmt.Appendf(nil, weirYAML, upstreamName, upstream, modelName, dir, pooledName, metering)
	if redis != "" {
		text = fmt.Appendf(text, "store: {redis: {url: %q}}\n", redis)
	}
	return errors.Join(
		os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "weir.yaml"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "keys.yaml"), fmt.Appendf(nil, keysYAML, keyring.Hash(callerKey), keyring.Hash(spentKey)), 0o600),
	)
}

// strip makes weir's bootstrap that of an Envoy alone: the same listener, one
// route to the upstream, no filter but the router.
func strip(b *bootstrapv3.Bootstrap) error {
	r := b.GetStaticResources()
	network := r.GetListeners()[0].GetFilterChains()[0].GetFilters()[0]
	hcm := &hcmv3.HttpConnectionManager{}
	if err := network.GetTypedConfig().UnmarshalTo(hcm); err != nil {
		return fmt.Errorf("read the bootstrap: %w", err)
	}
	filters := hcm.GetHttpFilters()
	hcm.HttpFilters = filters[len(filters)-1:]
	hcm.EarlyHeaderMutationExtensions, hcm.LocalReplyConfig, hcm.AccessLog = nil, nil, nil
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: oneRoute()}
	packed, err := anypb.New(hcm)
	if err != nil {
		return fmt.Errorf("write the bootstrap: %w", err)
	}
	network.GetTypedConfig().TypeUrl, network.GetTypedConfig().Value = packed.GetTypeUrl(), packed.GetValue()
	for _, c := range r.GetClusters() {
		if c.GetName() == envoy.ClusterOf(upstreamName) {
			r.Clusters = []*clusterv3.Cluster{c}
		}
	}
	return nil
}

func oneRoute() *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: "public", VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: envoy.ClusterOf(upstreamName)},
				Timeout:          durationpb.New(time.Duration(0)),
			}},
		}},
	}}}
}
