// Package answers hears of the answers that are metered natively: those whose streams
// Envoy reads itself, with the script of package envoy. The script tells of the end of
// an answer before the client sees it, the access log of those that broke off.
package answers

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/h2loop"
)

// maxNotes bounds what is noted of one answer, in bytes: usage for each of its choices.
const maxNotes = 4 << 20

// longNotes are those, in bytes, whose reading others are not made to wait for.
const longNotes = 64 << 10

// Options say how answers are settled.
type Options struct {
	// Noted has Envoy told what an exchange took, in two headers, for its access log.
	Noted bool
	// Waits is for limits that are counted elsewhere.
	Waits bool
}

// Handler serves POST /answers/{exchange}, with notes as the body, to Envoy alone. It
// answers 204 once the exchange is settled, and 404 if this process has none of that
// name: another one before it had.
func Handler(g *gateway.Gateway, o Options) func(*h2loop.Request) {
	return func(r *h2loop.Request) {
		exchange, found := strings.CutPrefix(r.Path, "/answers/")
		switch {
		case !found:
			r.Reply(http.StatusNotFound)
		case r.Method != http.MethodPost:
			r.Reply(http.StatusMethodNotAllowed)
		case len(r.Body) > maxNotes:
			r.Reply(http.StatusBadRequest)
		case o.Waits, len(r.Body) > longNotes:
			r.Go(func() { settle(g, r, exchange, o.Noted) })
		default:
			settle(g, r, exchange, o.Noted)
		}
	}
}

func settle(g *gateway.Gateway, r *h2loop.Request, exchange string, noted bool) {
	took, found := g.Ended(exchange, gateway.ParseNotes(string(r.Body)))
	switch {
	case !found:
		r.Reply(http.StatusNotFound)
	case noted && took != nil:
		r.Reply(http.StatusNoContent,
			h2loop.Header{Name: envoy.HeaderInput, Value: strconv.FormatInt(took.Input, 10)},
			h2loop.Header{Name: envoy.HeaderOutput, Value: strconv.FormatInt(took.Output, 10)})
	default:
		r.Reply(http.StatusNoContent)
	}
}
