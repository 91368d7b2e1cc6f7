package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/admin"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/proto/weir/admin/v1/adminv1connect"
)

// topCmd is weir top.
type topCmd struct {
	askFlags
	Interval time.Duration `default:"2s" placeholder:"DURATION" help:"How often to look (${default})."`
	Frames   int           `short:"n" placeholder:"N" help:"End after so many frames. Default: never."`
}

// Help is shown with weir top --help.
func (topCmd) Help() string {
	return `Shows what a running weir does: requests and tokens a second, upstreams and their keys, the limits that are closest to their end, and the requests in flight, the oldest first. Ctrl-C ends it. Where stdout is no terminal frames follow each other; -o json prints one object a frame.`
}

// limitsEvery is how often limits are asked for: that takes the store longer than all
// the rest.
const limitsEvery = 5 * time.Second

// Run shows frames until it is told to stop.
func (c *topCmd) Run(e *env) error {
	const shortest = 100 * time.Millisecond
	if c.Interval < shortest || c.Frames < 0 {
		return usageError{fmt.Errorf("--interval is at least %v, and -n not negative", shortest)}
	}
	client, base, where, err := c.weir(e)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	w := &watched{flags: c.askFlags, client: client, exchanges: adminv1connect.NewExchangesServiceClient(client, base, connect.WithProtoJSON())}
	width, height := terminalSize(e.stdout)
	live := width > 0 && c.Output == "text"
	if live {
		fmt.Fprint(e.stdout, enterScreen)
		defer fmt.Fprint(e.stdout, leaveScreen)
	}
	var before *sample
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for frame := 1; ; frame++ {
		now, err := w.look(e)
		if e.ctx.Err() != nil {
			return nil
		}
		if err != nil && (before == nil || !live) { // one that is there may come back
			return err
		}
		if live {
			width, height = terminalSize(e.stdout)
		}
		view := view{where: strings.SplitN(where, ": ", 2)[0], width: width, height: height, before: before, now: now, trouble: err}
		if err := c.show(e.stdout, live, &view); err != nil {
			return err
		}
		if now != nil {
			before = now
		}
		if frame == c.Frames {
			return nil
		}
		select {
		case <-e.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sequences of terminals: another screen without a cursor, and back; home; what is left
// of a line, and of the screen.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
)

func (c *topCmd) show(out io.Writer, live bool, v *view) error {
	var text string
	switch {
	case c.Output == "json":
		line, err := v.json()
		if err != nil {
			return err
		}
		text = line + "\n"
	case live:
		text = home + strings.Join(v.lines(), clearLine+"\n") + clearLine + clearRest
	default:
		text = strings.Join(v.lines(), "\n") + "\n\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// watched is a running weir.
type watched struct {
	flags     askFlags
	client    *http.Client
	exchanges adminv1connect.ExchangesServiceClient
	limits    admin.Limits
	asked     time.Time // for limits
}

// sample is what is known of a running weir at a time.
type sample struct {
	at      time.Time
	metrics metrics
	pools   []admin.Pool
	limits  admin.Limits
	running []*adminv1.Exchange
}

// look takes a sample.
func (w *watched) look(e *env) (*sample, error) {
	s := &sample{at: time.Now()}
	text, err := w.flags.ask(e, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	s.metrics = readMetrics(string(text))
	var pools admin.Pools
	if _, err := w.flags.ask(e, http.MethodGet, "/pools", &pools); err != nil {
		return nil, err
	}
	s.pools = pools.Pools
	if time.Since(w.asked) >= limitsEvery {
		var limits admin.Limits
		if _, err := w.flags.ask(e, http.MethodGet, "/limits", &limits); err == nil { // the store may be away
			w.limits, w.asked = limits, time.Now()
		}
	}
	s.limits = w.limits
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	list, err := w.exchanges.List(ctx, connect.NewRequest(&adminv1.ListExchangesRequest{}))
	if err != nil {
		return nil, w.flags.answered(err)
	}
	s.running = list.Msg.GetExchanges()
	return s, nil
}
