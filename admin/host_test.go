package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestSameHost(t *testing.T) {
	const here, network = "127.0.0.1", "192.0.2.1"
	for _, tt := range []struct {
		local, host string
		status      int
	}{
		{here, "localhost:9091", 200},
		{here, "LOCALHOST", 200},
		{here, "weir.localhost.", 200},
		{here, "127.0.0.1:9091", 200},
		{here, "127.9.9.9", 200},
		{here, "[::1]:9091", 200},
		{here, "[::1]", 200},
		{here, "::ffff:127.0.0.1", 200},
		{"::1", "localhost", 200},
		{here, "example.org", 421},
		{here, "example.org:9091", 421},
		{here, "notlocalhost", 421},
		{here, "localhost.example.org", 421},
		{here, "127.0.0.1.example.org", 421},
		{here, "192.0.2.1:9091", 421},
		{here, "0.0.0.0", 421},
		{here, "", 421},
		{"::1", "example.org", 421},
		{network, "example.org", 200},
		{network, "", 200},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(tt.local)}), http.MethodGet, "/", http.NoBody)
		r.Host = tt.host
		w := httptest.NewRecorder()
		SameHost(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%q at %s: status %d, want %d", tt.host, tt.local, w.Code, tt.status)
		}
	}
}
