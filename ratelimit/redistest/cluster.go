package redistest

import (
	"context"
	"net"
	"strings"
	"testing"
)

// slots is how many a cluster has.
const slots = 16384

// Cluster is three masters, each with a third of the slots.
type Cluster struct {
	Nodes [3]*Server
}

// StartCluster starts them, and waits until each knows all.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{}
	ports := make([]string, len(c.Nodes))
	for i := range c.Nodes {
		var err error
		if ports[i], err = freePort(); err != nil {
			tb.Fatal(err)
		}
		c.Nodes[i] = Start(tb, "--cluster-enabled", "yes", "--cluster-port", ports[i], "--cluster-node-timeout", "2000")
	}
	for i, node := range c.Nodes {
		node.Do(tb, "cluster", "addslotsrange", i*slots/len(c.Nodes), (i+1)*slots/len(c.Nodes)-1)
		node.Do(tb, "cluster", "set-config-epoch", i+1)
		host, port, _ := net.SplitHostPort(node.Addr)
		c.Nodes[0].Do(tb, "cluster", "meet", host, port, ports[i])
	}
	await(tb, "the cluster is up", func(ctx context.Context) bool {
		for _, node := range c.Nodes {
			info := node.Client.ClusterInfo(ctx).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return c
}

// URL is where the nodes listen, as redisstore takes it.
func (c *Cluster) URL() string {
	var addrs []string
	for _, node := range c.Nodes {
		addrs = append(addrs, node.Addr)
	}
	return "cluster://" + strings.Join(addrs, ",")
}

// Flush empties all nodes.
func (c *Cluster) Flush(tb testing.TB) {
	tb.Helper()
	for _, node := range c.Nodes {
		node.Flush(tb)
	}
}

// Holder is the index of the node that has the keys.
func (c *Cluster) Holder(tb testing.TB) int {
	tb.Helper()
	for i, node := range c.Nodes {
		if node.Do(tb, "dbsize").(int64) > 0 {
			return i
		}
	}
	tb.Fatal("no node has a key")
	return -1
}

// Move gives the slot of a key, which must be empty, to another node. Clients
// are not told.
func (c *Cluster) Move(tb testing.TB, key string, to int) {
	tb.Helper()
	slot := c.Nodes[to].Do(tb, "cluster", "keyslot", key)
	id := c.Nodes[to].Do(tb, "cluster", "myid")
	c.Nodes[to].Do(tb, "cluster", "setslot", slot, "node", id)
	c.Nodes[to].Do(tb, "cluster", "bumpepoch")
	for _, node := range c.Nodes {
		node.Do(tb, "cluster", "setslot", slot, "node", id)
	}
}
