package redistest

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Faults are what a Proxy does to what passes. The zero value is none.
type Faults struct {
	Delay       time.Duration // up to so long, each way
	CutRequests float64       // how likely a connection ends in place of a request
	CutReplies  float64       // and in place of a reply: the request was carried out
	Hold        bool          // nothing passes; what comes waits
}

// Proxy stands between clients and a server, and does harm when told to.
type Proxy struct {
	Addr string

	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	faults Faults
	conns  map[net.Conn]bool
	closed bool
	change chan struct{} // closed when faults change
}

// NewProxy starts a proxy of the server at a TCP address.
func NewProxy(tb testing.TB, server string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		Addr: l.Addr().String(), server: server, listener: l,
		conns: make(map[net.Conn]bool), change: make(chan struct{}),
	}
	p.running.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// URL is where the proxy listens, as redisstore takes it.
func (p *Proxy) URL() string { return "redis://" + p.Addr }

// Set replaces the faults.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.change)
	p.change = make(chan struct{})
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.Set(Faults{})
	p.mu.Lock()
	p.closed = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil || !p.track(client, server) {
			_ = client.Close()
			continue
		}
		both := func() { _, _ = client.Close(), server.Close() }
		p.running.Go(func() {
			p.pass(client, server, func(f Faults) float64 { return f.CutRequests })
			both()
		})
		p.running.Go(func() {
			p.pass(server, client, func(f Faults) float64 { return f.CutReplies })
			both()
		})
	}
}

// track has connections closed with the proxy.
func (p *Proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.closed {
			_ = conn.Close()
		}
		p.conns[conn] = true
	}
	return !p.closed
}

// pass hands on what it reads, until it can not or decides to cut.
func (p *Proxy) pass(from, to net.Conn, cut func(Faults) float64) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		f := p.current()
		if rand.Float64() < cut(f) {
			return
		}
		if f.Delay > 0 {
			time.Sleep(rand.N(f.Delay))
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// current answers the faults once nothing is held up.
func (p *Proxy) current() Faults {
	for {
		p.mu.Lock()
		f, change := p.faults, p.change
		p.mu.Unlock()
		if !f.Hold {
			return f
		}
		<-change
	}
}
