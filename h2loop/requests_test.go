package h2loop

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// http returns a client of the standard library's kind.
func (r *rig) http() *http.Client {
	tr := &http.Transport{DialContext: dialer(r.address), Protocols: &http.Protocols{}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: long}
}

// post sends a plain request and returns the head of the answer, which has no body.
func (r *rig) post(c *http.Client, path string, body []byte) (status int, header http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://weir"+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 {
		r.t.Errorf("body %q, %v", b, err)
	}
	return resp.StatusCode, resp.Header
}

func TestPlainRequests(t *testing.T) {
	const most = 200_000
	r := newRig(t, Options{MaxMessage: most, Plain: func(r *Request) {
		switch r.Path {
		case "/twice":
			r.Reply(http.StatusAccepted, Header{"x-answer", "first"})
			r.Reply(http.StatusTeapot, Header{"x-answer", "second"})
		case "/go":
			r.Go(func() { r.Reply(http.StatusCreated, Header{"x-answer", string(r.Body)}) })
		case "/go/twice":
			r.Go(func() { r.Reply(http.StatusCreated, Header{"x-answer", "first"}) })
			r.Go(func() { r.Reply(http.StatusTeapot, Header{"x-answer", "second"}) })
		case "/panic":
			panic("ouch")
		case "/go/panic":
			r.Go(func() { panic("ouch") })
		case "/panic/late":
			r.Reply(http.StatusAccepted)
			panic("ouch")
		default:
			r.Reply(http.StatusOK, Header{"x-path", r.Path}, Header{"x-answer", r.Method + " " + strconv.Itoa(len(r.Body))})
		}
	}}, nil)
	c := r.http()
	for _, tt := range []struct {
		path   string
		body   string
		status int
		answer string
		panics int
	}{
		{path: "/p?q=1&r=%20", body: "body", status: 200, answer: "POST 4"},
		{path: "/", status: 200, answer: "POST 0"},
		{path: "/", body: strings.Repeat("x", most), status: 200, answer: "POST 200000"},
		{path: "/", body: strings.Repeat("x", most+1), status: 413},
		{path: "/twice", status: 202, answer: "first"},
		{path: "/go", body: "body", status: 201, answer: "body"},
		{path: "/go/twice", status: 201, answer: "first"},
		{path: "/panic", status: 500, panics: 1},
		{path: "/go/panic", status: 500, panics: 1},
		{path: "/panic/late", status: 202, panics: 1},
		{path: "/", body: "again", status: 200, answer: "POST 5"},
	} {
		before := len(r.panics.all())
		status, header := r.post(c, tt.path, []byte(tt.body))
		if status != tt.status || header.Get("x-answer") != tt.answer {
			t.Errorf("%s: %d %v, want %d %q", tt.path, status, header, tt.status, tt.answer)
		}
		if tt.status == http.StatusOK && header.Get("x-path") != tt.path {
			t.Errorf("%s: path %q", tt.path, header.Get("x-path"))
		}
		r.panics.await(t, before+tt.panics)
	}
	if got := len(r.panics.all()); got != 3 {
		t.Errorf("%d panics, want 3", got)
	}
}

func TestWithoutPlainThereIsNothing(t *testing.T) {
	r := newRig(t, Options{}, echo)
	if got, _ := r.post(r.http(), "/", []byte("body")); got != http.StatusNotFound {
		t.Errorf("status %d", got)
	}
}

func TestStopWaitsForPlainRequests(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	r := newRig(t, Options{Plain: func(r *Request) {
		r.Go(func() {
			close(begun)
			<-release
			done.Store(true)
			r.Reply(http.StatusOK) // to nobody
		})
	}}, nil)
	c := r.http()
	failed := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://weir/", http.NoBody)
		if err == nil {
			var resp *http.Response
			if resp, err = c.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		failed <- err
	}()
	await(t, "a request", begun)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.server.Stop()
	}()
	if err := <-failed; err == nil {
		t.Error("the client is not told that the connection is gone")
	}
	select {
	case <-stopped:
		t.Error("Stop does not wait")
	default:
	}
	close(release)
	await(t, "Stop", stopped)
	if !done.Load() {
		t.Error("what Go began has not ended when Stop returns")
	}
}
