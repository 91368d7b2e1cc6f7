package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Time that Serve takes to stop: so long exchanges may go on, and so long the
// rest has to notice that its connection was closed.
const (
	drainTime = 1500 * time.Millisecond
	closeTime = 300 * time.Millisecond
)

// Serve listens on addr, host:port with port 0 for a free one, calls ready (if
// not nil) with the address it got, and serves a simulator until ctx is done.
// Then exchanges in flight have 1.5 s to end, and it returns within 2 s. It fails
// if it cannot listen.
func Serve(ctx context.Context, addr string, opts Options, ready func(addr string)) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("simulator: listen on %q: %w", addr, err)
	}
	sim := New(opts)
	server := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if ready != nil {
		ready(listener.Addr().String())
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop(context.WithoutCancel(ctx), server, sim)
		err = <-failed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("simulator: serve on %q: %w", addr, err)
	}
	return nil
}

// stop drains the server, then closes it.
func stop(ctx context.Context, server *http.Server, sim *Simulator) {
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if server.Shutdown(drain) == nil {
		return
	}
	_ = server.Close() // the listener is closed already
	last, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	_ = sim.ledger.Wait(last) // a handler that is late is no matter
}

// ServeHTTP serves the ledger to other processes: GET /_ledger, GET
// /_ledger/totals, both with ?settle=DURATION, and POST /_ledger/reset.
func (l *Ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /_ledger":
		l.settle(r)
		writeJSON(w, l.Snapshot())
	case "GET /_ledger/totals":
		l.settle(r)
		writeJSON(w, l.Totals())
	case "POST /_ledger/reset":
		l.Reset()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "the ledger has GET /_ledger, GET /_ledger/totals and POST /_ledger/reset", http.StatusNotFound)
	}
}

// settle waits for exchanges in flight, as long as the request asks for.
func (l *Ledger) settle(r *http.Request) {
	limit, err := time.ParseDuration(r.URL.Query().Get("settle"))
	if err != nil || limit <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	_ = l.Wait(ctx) // the answer tells what is still in flight
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client left
}
