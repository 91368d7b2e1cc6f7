package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// SameHost refuses requests to an address of this machine alone that are meant for
// another host: a page of the web whose name was made to lead here (DNS rebinding)
// reaches what listens for those who are on the machine.
func SameHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && local.IP.IsLoopback() && !loopback(r.Host) {
			http.Error(w, fmt.Sprintf("This address is for requests to localhost, and this one is for %.100q. A proxy on this machine has to send \"Host: localhost\".", r.Host),
				http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// loopback tells whether a Host is a name or an address of the machine itself
// (RFC 6761, section 6.3).
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
