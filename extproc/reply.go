package extproc

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/openai"
)

// The replies that tell nothing of an exchange. They are shared: nobody writes to them.
var (
	withoutCredentials = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			HeaderMutation: &extprocv3.HeaderMutation{RemoveHeaders: envoy.CredentialHeaders},
		}}},
	}
	passResponseHeaders = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}},
	}
	passResponseBody = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{}},
	}
	passRequestTrailers = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}},
	}
	passResponseTrailers = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}},
	}
)

// streamed asks Envoy for every chunk of the answer. Modes of an override are
// literal: what is not named is off.
var streamed = &filterv3.ProcessingMode{
	RequestHeaderMode:   filterv3.ProcessingMode_SEND,
	RequestBodyMode:     filterv3.ProcessingMode_BUFFERED,
	RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
	ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
	ResponseBodyMode:    filterv3.ProcessingMode_STREAMED,
	ResponseTrailerMode: filterv3.ProcessingMode_SKIP,
}

// native asks for nothing more: Envoy reads the answer itself.
var native = &filterv3.ProcessingMode{
	RequestHeaderMode:   filterv3.ProcessingMode_SEND,
	RequestBodyMode:     filterv3.ProcessingMode_BUFFERED,
	RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
	ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
	ResponseTrailerMode: filterv3.ProcessingMode_SKIP,
}

// forward sends an admitted request to its upstream.
func (s *stream) forward(x *gateway.Exchange) *extprocv3.ProcessingResponse {
	headers := &extprocv3.HeaderMutation{
		// Counting needs answers that are not compressed.
		RemoveHeaders: []string{"accept-encoding"},
	}
	if x.Attempted() {
		headers.SetHeaders = append(headers.SetHeaders, set(envoy.HeaderCluster, envoy.Attempted),
			set(envoy.HeaderMaxRetries, strconv.Itoa(x.Attempts()-1)))
	} else {
		headers.SetHeaders = append(headers.SetHeaders, set(envoy.HeaderCluster, envoy.ClusterOf(x.Upstream())))
	}
	if t := x.Timeouts(); t.FirstByte > 0 && (t.FirstByte != t.Idle || x.Attempted()) {
		headers.SetHeaders = append(headers.SetHeaders, set(envoy.HeaderFirstByte, milliseconds(t.FirstByte)))
	}
	if secret := x.Credential(); secret != "" {
		headers.SetHeaders = append(headers.SetHeaders, set("authorization", "Bearer "+secret.Reveal()))
	}
	traced, untraced := x.Trace()
	for _, h := range traced {
		headers.SetHeaders = append(headers.SetHeaders, set(h.Name, h.Value))
	}
	headers.RemoveHeaders = append(headers.RemoveHeaders, untraced...)
	// The route is chosen anew, by the header of the cluster.
	reply := &extprocv3.CommonResponse{HeaderMutation: headers, ClearRouteCache: true}
	if body, rewritten := x.Body(); rewritten {
		reply.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}}
		headers.SetHeaders = append(headers.SetHeaders, set("content-length", strconv.Itoa(len(body))))
		headers.RemoveHeaders = append(headers.RemoveHeaders, "transfer-encoding")
	}
	return &extprocv3.ProcessingResponse{
		Response:        &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: reply}},
		DynamicMetadata: s.exchangeNote(x),
	}
}

// answer applies a plan to the response headers.
func answer(p *gateway.Plan) *extprocv3.ProcessingResponse {
	headers := &extprocv3.HeaderMutation{RemoveHeaders: p.Remove}
	if p.Status != 0 {
		headers.SetHeaders = append(headers.SetHeaders, set(":status", strconv.Itoa(p.Status)))
	}
	for _, h := range p.Set {
		headers.SetHeaders = append(headers.SetHeaders, set(h.Name, h.Value))
	}
	reply := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: headers}},
	}}
	switch {
	case p.Native:
		reply.ModeOverride = native
	case p.Watch:
		reply.ModeOverride = duplex
	case p.Observe:
		reply.ModeOverride = streamed
	}
	return reply
}

// duplex asks for every chunk too, and lets weir speak when it was not asked:
// nothing passes but what it sends.
var duplex = &filterv3.ProcessingMode{
	RequestHeaderMode:   filterv3.ProcessingMode_SEND,
	RequestBodyMode:     filterv3.ProcessingMode_BUFFERED,
	RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
	ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
	ResponseBodyMode:    filterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
	ResponseTrailerMode: filterv3.ProcessingMode_SEND,
}

// passOn sends bytes of the answer, in duplex.
func passOn(out []byte, last bool) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
			BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{
				StreamedResponse: &extprocv3.StreamedBodyResponse{Body: out, EndOfStream: last},
			}},
		}},
	}}
}

// replaceBody puts out in the place of a chunk.
func replaceBody(out []byte) *extprocv3.ProcessingResponse {
	mutation := &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: out}}
	if len(out) == 0 {
		mutation.Mutation = &extprocv3.BodyMutation_ClearBody{ClearBody: true}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: mutation}},
	}}
}

// immediate answers in the upstream's place.
func immediate(e *openai.Error) *extprocv3.ProcessingResponse {
	headers := &extprocv3.HeaderMutation{}
	for _, h := range e.Headers() {
		headers.SetHeaders = append(headers.SetHeaders, set(h.Name, h.Value))
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(e.Status)},
			Headers: headers,
			Body:    e.Body(),
			Details: envoy.DetailWeir,
		},
	}}
}

func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
