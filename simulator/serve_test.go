package simulator

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs Serve until the test cancels it.
func serve(t *testing.T, script string) (url string, cancel func(), ended <-chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	ready, done := make(chan string, 1), make(chan error, 1)
	opts := Options{Models: []Model{{Name: "m", Script: parse(t, script)}}}
	go func() { done <- Serve(ctx, "127.0.0.1:0", opts, func(addr string) { ready <- addr }) }()
	select {
	case addr := <-ready:
		return "http://" + addr, stop, done
	case err := <-done:
		t.Fatal(err)
		return "", nil, nil
	}
}

func post(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+chatPath, strings.NewReader(`{"stream":true,`+hello+`}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// What is in flight when Serve stops may end, if it does so soon.
func TestServeDrains(t *testing.T) {
	url, cancel, ended := serve(t, "tokens=10,pace=30ms")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp := post(t, client, url)
	defer resp.Body.Close()
	cancel()
	if got := read(t, readAll(t, resp)); len(got.Chunks) != 10 || !got.Done {
		t.Errorf("got %+v", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What hangs does not keep Serve from stopping.
func TestServeStopsWithin2s(t *testing.T) {
	url, cancel, ended := serve(t, "fail=hang:1")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp := post(t, client, url)
	defer resp.Body.Close()
	if !bufio.NewScanner(resp.Body).Scan() {
		t.Fatal("no event")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Error("still serving after 2 s")
	}
}

func TestServeCannotListen(t *testing.T) {
	err := Serve(t.Context(), "127.0.0.1:none", Options{}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `simulator: listen on "127.0.0.1:none": `) {
		t.Errorf("error %v", err)
	}
}
