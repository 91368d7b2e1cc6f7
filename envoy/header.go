package envoy

import corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

// HeaderValue is the value of a header as filters tell it: raw, or as text by an Envoy
// that was not told to send it raw.
func HeaderValue(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return h.GetValue()
}
