package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// answerTime bounds the wait for one answer.
const answerTime = 30 * time.Second

// client sends requests over one connection that it keeps. It does little
// beside: it shares the machine with what is measured.
type client struct {
	addr string
	conn net.Conn // nil before the first request, and after an answer that ends it
	r    *bufio.Reader
	body []byte
}

// reply is an answer. Its body is valid until the next.
type reply struct {
	status       int
	body         []byte
	alone        bool          // weir decided without its store
	first, total time.Duration // until the first byte of the body, and until its end
}

// do sends a request as it stands and reads the whole answer.
func (c *client) do(request []byte) (reply, error) {
	if err := c.connect(); err != nil {
		return reply{}, err
	}
	start := time.Now()
	if err := c.send(request); err != nil {
		return reply{}, err
	}
	return c.receive(start)
}

// send sends a request over the connection that there is.
func (c *client) send(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	return nil
}

// receive reads the answer to the request that was sent last; start is when its
// time began.
func (c *client) receive(start time.Time) (reply, error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return reply{}, fmt.Errorf("read an answer: %w", err)
	}
	defer resp.Body.Close()
	first, err := c.read(resp.Body)
	if err != nil {
		return reply{}, fmt.Errorf("read an answer's body: %w", err)
	}
	r := reply{
		status: resp.StatusCode, body: c.body, alone: resp.Header.Get("X-Weir-Limits") != "",
		first: first.Sub(start), total: time.Since(start),
	}
	if resp.Close {
		c.close()
	}
	return r, nil
}

// read fills c.body, and tells when its first bytes were there.
func (c *client) read(body io.Reader) (first time.Time, err error) {
	c.body = c.body[:0]
	for {
		if len(c.body) == cap(c.body) {
			c.body = append(c.body, make([]byte, 8<<10)...)[:len(c.body)]
		}
		n, err := body.Read(c.body[len(c.body):cap(c.body)])
		if n > 0 && len(c.body) == 0 {
			first = time.Now()
		}
		c.body = c.body[:len(c.body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return first, nil
		case err != nil:
			return first, err
		}
	}
}

func (c *client) connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("connect to Envoy: %w", err)
	}
	c.conn = conn
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, 16<<10)
	}
	c.r.Reset(conn)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is owed to it
		c.conn = nil
	}
}

// timing is what a load took.
type timing struct {
	wall         time.Duration
	first, total []time.Duration // of each answer, in no order
	alone        int             // answers that weir decided without its store
	late         []time.Duration // how late requests were sent, where they were due
}

// join adds what another connection took.
func (t *timing) join(other *timing) {
	t.first = append(t.first, other.first...)
	t.total = append(t.total, other.total...)
	t.alone += other.alone
}

// take checks an answer and adds it.
func (t *timing) take(w *workload, r *reply) error {
	if err := w.check(r); err != nil {
		return err
	}
	t.first = append(t.first, r.first)
	t.total = append(t.total, r.total)
	if r.alone {
		t.alone++
	}
	return nil
}

// drive sends count requests of w to addr and checks the answers. All
// connections end with it.
func drive(ctx context.Context, addr string, w *workload, count int) (timing, error) {
	if w.rate > 0 {
		return driveAtRate(ctx, addr, w, count)
	}
	var left atomic.Int64
	left.Store(int64(count))
	parts := make([]timing, w.conns)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range parts {
		group.Go(func() error {
			time.Sleep(w.delay(i))
			return parts[i].add(ctx, &client{addr: addr}, w, &left)
		})
	}
	err := group.Wait()
	t := timing{wall: time.Since(start)}
	for i := range parts {
		t.join(&parts[i])
	}
	return t, err
}

// add sends requests of w until none are left.
func (t *timing) add(ctx context.Context, c *client, w *workload, left *atomic.Int64) error {
	defer c.close()
	for left.Add(-1) >= 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := c.do(w.request)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if err := t.take(w, &r); err != nil {
			return err
		}
	}
	return nil
}
