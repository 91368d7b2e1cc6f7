// Package answers hears of the answers that are metered natively: those whose streams
// Envoy reads itself, with the script of package envoy. The script tells of the end of
// an answer before the client sees it, the access log of those that broke off.
package answers

import (
	"io"
	"net/http"
	"strconv"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
)

// maxNotes bounds what is noted of one answer, in bytes: usage for each of its choices.
const maxNotes = 4 << 20

// Handler serves POST /answers/{exchange}, with notes as the body, to Envoy alone. It
// answers 204 once the exchange is settled, and 404 if this process has none of that
// name: another one before it had. noted has it tell what the exchange took, in two
// headers, for Envoy's access log.
func Handler(g *gateway.Gateway, noted bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /answers/{exchange}", func(w http.ResponseWriter, r *http.Request) {
		notes, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNotes))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		took, found := g.Ended(r.PathValue("exchange"), gateway.ParseNotes(string(notes)))
		if !found {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if noted && took != nil {
			w.Header().Set(envoy.HeaderInput, strconv.FormatInt(took.Input, 10))
			w.Header().Set(envoy.HeaderOutput, strconv.FormatInt(took.Output, 10))
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
