package extproc

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/openai"
)

// stream is the state of one exchange. It belongs to the goroutine that receives Envoy's
// messages, and to the watch over an answer, if there is one.
type stream struct {
	callers *authz.Server
	gateway *gateway.Gateway
	log     zerolog.Logger
	noted   bool // for an access log
	waits   bool // for limits that are counted elsewhere
	rpc     Call

	mu       sync.Mutex // guards the rest, and the order of what is sent
	over     bool       // Envoy has closed it
	answers  bool       // the head of the answer was seen
	native   bool       // Envoy reads the rest
	call     gateway.Call
	exchange *gateway.Exchange // nil until admitted
	watch    *watch            // nil: nothing is sent that was not asked for
	cut      *cut              // nil: nobody has cancelled it
}

// Receive answers one message of Envoy's.
func (s *stream) Receive(message []byte) error {
	in, err := decode(message)
	if err != nil {
		return err
	}
	head := in.GetRequestHeaders()
	known := head != nil && !head.GetEndOfStream() // who calls is known here
	return serve(s.rpc, s.waits && !known, func() error { return s.answer(in) })
}

// answer answers one message. If Envoy is gone, the end of the call tells.
func (s *stream) answer(in *extprocv3.ProcessingRequest) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			logPanic(s.log, p, s.call.RequestID)
			err = status.Error(codes.Internal, "weir failed to handle this request")
		}
	}()
	if s.watch != nil && s.watch.expired || s.cut.spoken() {
		return nil // the last word is spoken
	}
	if body := in.GetResponseBody(); body != nil && s.cut != nil {
		s.cut.instead(body)
		return nil
	}
	_ = s.rpc.Send(s.step(in))
	return nil
}

// step answers one message of Envoy's. It does no I/O of the stream.
func (s *stream) step(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	switch m := in.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return s.requestHeaders(m.RequestHeaders, in.GetAttributes())
	case *extprocv3.ProcessingRequest_RequestBody:
		return s.admit(s.rpc.Context(), m.RequestBody.GetBody())
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return s.responseHeaders(m.ResponseHeaders)
	case *extprocv3.ProcessingRequest_ResponseBody:
		return s.responseBody(m.ResponseBody)
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return passRequestTrailers
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		return passResponseTrailers
	}
	return s.failed("Envoy sent a message that weir does not know")
}

// requestHeaders learns who calls, and what for. An Envoy that others have configured may
// have asked authz before, which has put the caller's id in and taken the credentials off:
// beside one, an id is nobody's word.
func (s *stream) requestHeaders(m *extprocv3.HttpHeaders, attributes map[string]*structpb.Struct) *extprocv3.ProcessingResponse {
	s.call.Start = time.Now()
	asked := authz.Request{Headers: m.GetHeaders().GetHeaders(), Start: s.call.Start}
	credential := false
	for _, h := range asked.Headers {
		switch h.GetKey() {
		case ":path":
			asked.Path, _, _ = strings.Cut(envoy.HeaderValue(h), "?")
			s.call.Endpoint = openai.EndpointOf(asked.Path)
		case ":authority":
			asked.Host = envoy.HeaderValue(h)
		case "x-request-id":
			s.call.RequestID = envoy.HeaderValue(h)
		case "content-type":
			s.call.ContentType = envoy.HeaderValue(h)
		case "traceparent":
			s.call.Trace.Parent = envoy.HeaderValue(h)
		case "tracestate":
			s.call.Trace.AddState(envoy.HeaderValue(h))
		case envoy.HeaderKey:
			s.call.KeyID = envoy.HeaderValue(h)
		default:
			credential = credential || slices.Contains(envoy.CredentialHeaders, h.GetKey())
		}
	}
	if s.call.KeyID == "" || credential {
		asked.ID, asked.Trace, asked.Source = s.call.RequestID, s.call.Trace, sourceOf(attributes)
		key, err := s.callers.Caller(&asked)
		if err != nil {
			return immediate(err)
		}
		s.call.KeyID = key.ID
	}
	if m.GetEndOfStream() {
		return s.admit(context.Background(), nil) // which says that the body is empty
	}
	return withoutCredentials
}

// sourceOf is the client's address; the zero Addr if Envoy does not tell.
func sourceOf(attributes map[string]*structpb.Struct) netip.Addr {
	for _, a := range attributes { // of one filter
		if source, err := netip.ParseAddrPort(a.GetFields()[envoy.AttributeSource].GetStringValue()); err == nil {
			return source.Addr()
		}
	}
	return netip.Addr{}
}

// admit asks the gateway, and sends the request on its way.
func (s *stream) admit(ctx context.Context, body []byte) *extprocv3.ProcessingResponse {
	if s.call.Endpoint == openai.Unknown {
		return s.failed("Envoy asked about a path that weir does not serve")
	}
	s.call.Body = body
	x, err := s.gateway.Admit(ctx, s.call)
	s.call.Body = nil
	if err != nil {
		return immediate(err)
	}
	s.exchange = x
	x.OnCancel(s.cancel)
	return s.forward(x)
}

func (s *stream) responseHeaders(m *extprocv3.HttpHeaders) *extprocv3.ProcessingResponse {
	if s.exchange == nil {
		return passResponseHeaders // an answer of Envoy's to what was not admitted
	}
	head := gateway.Head{Last: m.GetEndOfStream()}
	var typed, encoded bool
	for _, h := range m.GetHeaders().GetHeaders() {
		switch h.GetKey() {
		case ":status":
			head.Status, _ = strconv.Atoi(envoy.HeaderValue(h)) // Envoy's own text
		case "content-type":
			head.ContentType = joined(head.ContentType, h, &typed)
		case "content-encoding":
			head.Encoding = joined(head.Encoding, h, &encoded)
		case "retry-after":
			head.RetryAfter = envoy.HeaderValue(h)
		case envoy.HeaderErrorSource:
			head.Local = true
		}
	}
	s.answers = true
	plan := s.exchange.Answer(head)
	if plan.Instead != nil {
		return immediate(plan.Instead)
	}
	s.native = plan.Native
	if plan.Watch && !head.Last {
		s.watch = newWatch(s)
	}
	return answer(&plan)
}

// joined is the value of a header that may come several times, as the script reads it.
func joined(before string, h *corev3.HeaderValue, seen *bool) string {
	if !*seen {
		*seen = true
		return envoy.HeaderValue(h)
	}
	return before + "," + envoy.HeaderValue(h)
}

func (s *stream) responseBody(m *extprocv3.HttpBody) *extprocv3.ProcessingResponse {
	if s.exchange == nil {
		return passResponseBody
	}
	out, changed := s.exchange.Write(m.GetBody(), m.GetEndOfStream())
	var note *structpb.Struct
	if s.noted {
		note = tookNote(s.exchange)
	}
	var reply *extprocv3.ProcessingResponse
	switch {
	case s.watch != nil:
		s.watch.spoke = time.Now()
		reply = passOn(out, m.GetEndOfStream())
	case changed:
		reply = replaceBody(out)
	case note == nil:
		return passResponseBody
	default:
		reply = &extprocv3.ProcessingResponse{Response: passResponseBody.GetResponse()}
	}
	reply.DynamicMetadata = note
	return reply
}

// End is called once, when no more messages will come.
func (s *stream) End(error) {
	_ = serve(s.rpc, s.waits, func() error { // it never fails
		s.end()
		return nil
	})
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.watch != nil {
		s.watch.stop()
	}
	if s.exchange != nil {
		s.exchange.End()
	}
}

// failed answers what must not happen.
func (s *stream) failed(what string) *extprocv3.ProcessingResponse {
	s.log.Error().Str("request_id", s.call.RequestID).Msg(what)
	return immediate(internal())
}
