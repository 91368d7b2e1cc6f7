package authz

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/h2loop"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
)

// Server is the ext_authz service.
type Server struct {
	keys    *keyring.Keyring
	denied  Denied
	metrics *telemetry.Metrics
}

// Denied tells of a caller that has just been refused by a limit, and would be
// again. It answers nil for everybody else, and counts whom it refuses.
type Denied func(key *keyring.Key, endpoint openai.Endpoint, requestID string, trace telemetry.TraceContext, start time.Time) *openai.Error

// New returns a server that knows those keys.
func New(keys *keyring.Keyring, denied Denied, metrics *telemetry.Metrics) *Server {
	return &Server{keys: keys, denied: denied, metrics: metrics}
}

// Request is what there is to tell of who sends a request, before its body is there.
type Request struct {
	Path    string // without its query
	Host    string
	ID      string // the request's
	Trace   telemetry.TraceContext
	Source  netip.Addr // the client's; the zero Addr, which no range holds, if nobody tells
	Headers []*corev3.HeaderValue
	Start   time.Time
}

// Check serves Envoy's question who calls.
func (s *Server) Check(call *h2loop.Call) h2loop.Receiver {
	return &question{server: s, call: call, source: call.Metadata(envoy.SourceKey)}
}

// question is one call of Check.
type question struct {
	server *Server
	call   *h2loop.Call
	source string // the client's address; "": Envoy does not tell apart from the question
}

// Receive answers the question.
func (q *question) Receive(message []byte) error {
	req := &authv3.CheckRequest{}
	if err := proto.Unmarshal(message, req); err != nil {
		return status.Errorf(codes.InvalidArgument, "this is no CheckRequest: %v", err)
	}
	_ = q.call.Send(q.server.answer(q.source, req)) // unless Envoy is gone
	return nil
}

// End has nothing to do.
func (*question) End(error) {}

// answer tells who calls, or refuses.
func (s *Server) answer(source string, req *authv3.CheckRequest) *authv3.CheckResponse {
	a := req.GetAttributes()
	path, _, _ := strings.Cut(a.GetRequest().GetHttp().GetPath(), "?")
	headers := headersOf(a)
	r := &Request{
		Path: path, Host: a.GetRequest().GetHttp().GetHost(), ID: requestID(headers), Trace: traceOf(headers),
		Source: sourceOf(source, a), Headers: headers, Start: time.Now(),
	}
	key, err := s.Caller(r)
	if err != nil {
		return denied(err)
	}
	return admitted(key.ID)
}

// Caller is the key that a request may be answered for, or why it may not, in the dialect
// of its path.
func (s *Server) Caller(r *Request) (*keyring.Key, *openai.Error) {
	ep := openai.EndpointOf(r.Path)
	key, err := s.caller(r)
	if err != nil {
		s.metrics.Answered(endpointName(r.Path), err.Status, err.Type, time.Since(r.Start))
		return nil, err.For(ep, r.ID)
	}
	if err := s.denied(key, ep, r.ID, r.Trace, r.Start); err != nil {
		return nil, err.For(ep, r.ID)
	}
	return key, nil
}

func (s *Server) caller(r *Request) (*keyring.Key, *openai.Error) {
	// Envoy joins the values of several Host lines (RFC 9112, section 3.2).
	if strings.Contains(r.Host, ",") {
		return nil, &openai.Error{
			Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest,
			Message: "The request has more than one Host header. Send one.",
		}
	}
	secret, err := credential(r.Headers)
	if err != nil {
		return nil, err
	}
	key, ok := s.keys.Ring().Lookup(secret, r.Start)
	if !ok || !key.Usable(r.Start) {
		return nil, unknownKey(secret)
	}
	if !key.AllowsAddr(r.Source) {
		return nil, forbidden("Your API key may not be used from this address.")
	}
	if !key.AllowsEndpoint(r.Path) {
		return nil, forbidden("Your API key may not be used for " + r.Path + ".")
	}
	return key, encoded(r.Headers)
}

// encoded refuses bodies that would have to be decompressed to be read.
func encoded(headers []*corev3.HeaderValue) *openai.Error {
	for _, h := range headers {
		if h.GetKey() != "content-encoding" {
			continue
		}
		if v := envoy.HeaderValue(h); v != "" && !strings.EqualFold(v, "identity") {
			return &openai.Error{
				Status: http.StatusUnsupportedMediaType, Type: openai.TypeInvalidRequest,
				Message: "Compressed request bodies are not supported. Send the body as it is, without Content-Encoding.",
			}
		}
	}
	return nil
}

func forbidden(message string) *openai.Error {
	return &openai.Error{Status: http.StatusForbidden, Type: openai.TypePermission, Message: message}
}

// sourceOf is the client's address; the zero Addr, which no range holds, if
// Envoy does not tell. An Envoy that weir has not configured tells that of the connection.
func sourceOf(told string, a *authv3.AttributeContext) netip.Addr {
	text := told
	if text == "" {
		text = a.GetSource().GetAddress().GetSocketAddress().GetAddress()
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

func requestID(headers []*corev3.HeaderValue) string {
	for _, h := range headers {
		if h.GetKey() == "x-request-id" {
			return envoy.HeaderValue(h)
		}
	}
	return ""
}

// headersOf are the headers that weir reads. An Envoy that weir has not configured may
// hand them over as a map, whose values have lost what is no UTF-8, and where headers of
// one name are one, joined by commas.
func headersOf(a *authv3.AttributeContext) []*corev3.HeaderValue {
	http := a.GetRequest().GetHttp()
	if list := http.GetHeaderMap().GetHeaders(); len(list) > 0 {
		return list
	}
	var list []*corev3.HeaderValue
	for _, name := range envoy.AuthzHeaders {
		if value, ok := http.GetHeaders()[name]; ok {
			list = append(list, &corev3.HeaderValue{Key: name, Value: value})
		}
	}
	return list
}

// traceOf is the trace that the client names.
func traceOf(headers []*corev3.HeaderValue) (t telemetry.TraceContext) {
	for _, h := range headers {
		switch h.GetKey() {
		case "traceparent":
			t.Parent = envoy.HeaderValue(h)
		case "tracestate":
			t.AddState(envoy.HeaderValue(h))
		}
	}
	return t
}

// endpointName is the path as metrics label it.
func endpointName(path string) string {
	if ep := openai.EndpointOf(path); ep != openai.Unknown {
		return ep.String()
	}
	if path == "/v1/models" || strings.HasPrefix(path, "/v1/models/") {
		return "models"
	}
	if path == "/v1/key" {
		return "key"
	}
	return openai.Unknown.String()
}

// admitted passes the caller's id on, and takes the credentials away.
func admitted(id string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:         []*corev3.HeaderValueOption{overwrite(envoy.HeaderKey, id)},
			HeadersToRemove: envoy.CredentialHeaders,
		}},
	}
}

func denied(e *openai.Error) *authv3.CheckResponse {
	r := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(e.Status)},
		Body:   string(e.Body()),
	}
	for _, h := range e.Headers() {
		r.Headers = append(r.Headers, overwrite(h.Name, h.Value))
	}
	return &authv3.CheckResponse{
		Status:       &statuspb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: r},
	}
}

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
