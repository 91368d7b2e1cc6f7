package extproc

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/openai"
)

// attempt is the state of one attempt of a request, of which Envoy asks with the
// filter of the upstream's cluster. It is owned by the goroutine that receives Envoy's
// messages.
type attempt struct {
	gateway *gateway.Gateway
	call    Call
	waits   bool             // for limits that are counted elsewhere
	at      *gateway.Attempt // nil until it has begun
	status  int
	headers []*corev3.HeaderValue // of the answer
}

// Receive answers every message of an attempt.
func (a *attempt) Receive(message []byte) error {
	in, err := decode(message)
	if err != nil {
		return err
	}
	return serve(a.call, a.waits, func() error {
		if reply := a.step(in); reply != nil {
			_ = a.call.Send(reply) // if Envoy is gone, the end of the call tells
		}
		return nil
	})
}

// step answers one message; with nil, if the answer is sent later.
func (a *attempt) step(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	switch m := in.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return a.begin(in)
	case *extprocv3.ProcessingRequest_RequestBody:
		return a.requestBody(m.RequestBody)
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return a.responseHeaders(m.ResponseHeaders)
	case *extprocv3.ProcessingRequest_ResponseBody:
		return a.responseBody(m.ResponseBody)
	}
	return immediate(internal())
}

// End is called last. A call that Envoy ends before there was an answer is one that
// got as far as the upstream; Envoy breaks the others off.
func (a *attempt) End(err error) {
	if a.at == nil {
		return
	}
	_ = serve(a.call, a.waits, func() error { // it never fails
		a.at.End(errors.Is(err, io.EOF))
		return nil
	})
}

// internal is the error of what Envoy must not send.
func internal() *openai.Error {
	return &openai.Error{
		Status: http.StatusInternalServerError, Type: openai.TypeServer,
		Message: "The gateway failed to handle this request.",
	}
}

// wholeBody asks for the request's body, to name the model in it anew. Modes of
// an override are literal.
var wholeBody = &filterv3.ProcessingMode{
	RequestHeaderMode:   filterv3.ProcessingMode_SEND,
	RequestBodyMode:     filterv3.ProcessingMode_BUFFERED,
	RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
	ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
	ResponseTrailerMode: filterv3.ProcessingMode_SKIP,
}

// errorBody asks for the body of an answer, as far as it fits.
var errorBody = &filterv3.ProcessingMode{
	RequestHeaderMode:   filterv3.ProcessingMode_SEND,
	RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
	ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
	ResponseBodyMode:    filterv3.ProcessingMode_BUFFERED_PARTIAL,
	ResponseTrailerMode: filterv3.ProcessingMode_SKIP,
}

// begin begins an attempt, when it is time for it.
func (a *attempt) begin(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	exchange := in.GetMetadataContext().GetFilterMetadata()[envoy.MetadataSpace].GetFields()[envoy.MetadataExchange].GetStringValue()
	var number int
	var cluster string
	for _, attributes := range in.GetAttributes() {
		number = int(attributes.GetFields()[envoy.AttributeAttempt].GetNumberValue())
		cluster = attributes.GetFields()[envoy.AttributeCluster].GetStringValue()
	}
	at, err := a.gateway.Attempt(a.call.Context(), exchange, envoy.UpstreamOf(cluster), number)
	if err != nil {
		return immediate(err)
	}
	a.at = at
	if at.Pause() <= 0 {
		return a.start()
	}
	a.call.Go(func() error {
		select {
		case <-a.call.Context().Done():
		case <-time.After(at.Pause()):
		}
		_ = a.call.Send(a.start())
		return nil
	})
	return nil
}

// start tells Envoy how the attempt is to be made.
func (a *attempt) start() *extprocv3.ProcessingResponse {
	at := a.at
	// Attempts share the request's headers: each sets all that another may have set.
	headers := &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{set(":path", at.Path())}}
	if secret := at.Credential(); secret != "" {
		headers.SetHeaders = append(headers.SetHeaders, set("authorization", "Bearer "+secret.Reveal()))
	} else {
		headers.RemoveHeaders = []string{"authorization"}
	}
	if n, changes := at.Length(); changes {
		headers.SetHeaders = append(headers.SetHeaders, set("content-length", strconv.Itoa(n)))
	}
	reply := &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{
			Response: &extprocv3.CommonResponse{HeaderMutation: headers},
		}},
		DynamicMetadata: order(at.Order()),
	}
	if _, differs := at.Renamed(); differs {
		reply.ModeOverride = wholeBody
	}
	return reply
}

func (a *attempt) requestBody(m *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
	if a.at == nil {
		return immediate(internal())
	}
	body, err := a.at.Rewrite(m.GetBody())
	if err != nil {
		return immediate(err)
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{
		Response: &extprocv3.CommonResponse{
			BodyMutation:   &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}},
			HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{set("content-length", strconv.Itoa(len(body)))}},
		},
	}}}
}

func (a *attempt) responseHeaders(m *extprocv3.HttpHeaders) *extprocv3.ProcessingResponse {
	if a.at == nil {
		return passResponseHeaders
	}
	a.headers = m.GetHeaders().GetHeaders()
	a.status, _ = strconv.Atoi(a.header(":status")) // Envoy's own text
	if a.at.WantsBody(a.status) && !m.GetEndOfStream() {
		return &extprocv3.ProcessingResponse{
			Response:     &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}},
			ModeOverride: errorBody,
		}
	}
	mutation, metadata := a.answered(nil)
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{
			Response: &extprocv3.CommonResponse{HeaderMutation: mutation},
		}},
		DynamicMetadata: metadata,
	}
}

func (a *attempt) responseBody(m *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
	if a.at == nil || a.headers == nil {
		return passResponseBody
	}
	mutation, metadata := a.answered(m.GetBody())
	a.headers = nil // what else comes of a long body passes
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{
			Response: &extprocv3.CommonResponse{HeaderMutation: mutation},
		}},
		DynamicMetadata: metadata,
	}
}

// answered asks whether there is to be another attempt, and tells Envoy. What the
// upstream itself says of that is taken off.
func (a *attempt) answered(body []byte) (*extprocv3.HeaderMutation, *structpb.Struct) {
	retry, next := a.at.Answered(a.status, a.header, body)
	if !retry {
		return &extprocv3.HeaderMutation{RemoveHeaders: []string{envoy.HeaderRetry}}, nil
	}
	return &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{set(envoy.HeaderRetry, "1")}}, order(next)
}

func (a *attempt) header(name string) string {
	for _, h := range a.headers {
		if h.GetKey() == name {
			return envoy.HeaderValue(h)
		}
	}
	return ""
}

// milliseconds is how Envoy's headers tell durations.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
