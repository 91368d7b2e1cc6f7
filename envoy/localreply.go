package envoy

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/openai"
)

// DetailWeir is the response code detail of answers that extproc made. Envoy's
// own answers have other details, by which they are told apart.
const DetailWeir = "weir"

// localReplies puts what Envoy answers itself into the error envelope. The
// first filter that matches counts; filters are CEL expressions over Envoy's
// attributes.
//
// Where the path is one of Anthropic's dialect, so is the answer.
func localReplies(limit uint32) *hcmv3.LocalReplyConfig {
	mappers := []*hcmv3.ResponseMapper{
		// Ours already; left as it is.
		{Filter: when(`response.code < 400 || response.code_details in ["ext_authz_denied", "direct_response"] || response.code_details.startsWith("` + DetailWeir + `")`)},
	}
	tooLarge := localError{`response.code == 413`, *requestTooLarge(limit)}
	for _, l := range append([]localError{tooLarge}, localErrors...) {
		dialect := l.error
		mappers = append(mappers,
			mapped(anthropicPath+" && ("+l.when+")", dialect.For(openai.Messages, requestID)),
			mapped(l.when, &l.error))
	}
	return &hcmv3.LocalReplyConfig{Mappers: mappers}
}

// anthropicPath holds for requests whose clients speak Anthropic's dialect. Where
// there is no request, it does not.
var anthropicPath = `request.url_path.startsWith("` + openai.Messages.Path() + `")`

// requestID is the id of the request, which Envoy puts in.
const requestID = "%REQ(x-request-id)%"

// localError is an answer, and what it is for.
type localError struct {
	when  string
	error openai.Error
}

// localErrors are the answers, in the order in which they are tried.
var localErrors = []localError{
	// Without weir no request has a cluster to go to.
	{`response.code_details.startsWith("ext_authz") || response.code_details.startsWith("ext_proc") || response.code_details == "cluster_not_found" && !("` + HeaderCluster + `" in request.headers)`, openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded, RetryAfter: time.Second,
		Message: "The gateway cannot decide about requests at the moment. Try again shortly.",
	}},
	{`response.code_details.contains("overload")`, openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded, RetryAfter: time.Second,
		Message: "The gateway has too much to do at the moment. Try again shortly.",
	}},
	{`response.code == 504`, openai.Error{
		Status: http.StatusGatewayTimeout, Type: openai.TypeServer, Code: openai.CodeUpstreamTimeout,
		Message: "The upstream server did not answer in time.",
	}},
	{`response.code_details.startsWith("upstream_reset_before_response_started{connection_termination") || response.code_details.startsWith("upstream_reset_before_response_started{remote_reset") || response.code_details.contains("protocol_error")`, openai.Error{
		Status: http.StatusBadGateway, Type: openai.TypeServer, Code: openai.CodeUpstreamError,
		Message: "The upstream server broke the connection off before it answered.",
	}},
	{`response.code == 501`, openai.Error{
		Status: http.StatusNotImplemented, Type: openai.TypeInvalidRequest,
		Message: "The request has a Transfer-Encoding that this gateway does not take: send 'chunked', or a Content-Length.",
	}},
	{`response.code >= 500`, openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeNoUpstream, RetryAfter: time.Second,
		Message: "No upstream server can be reached at the moment. Try again shortly.",
	}},
	{`response.code == 408`, openai.Error{
		Status: http.StatusRequestTimeout, Type: openai.TypeInvalidRequest,
		Message: "The request did not arrive in time.",
	}},
	{`response.code == 431`, openai.Error{
		Status: http.StatusRequestHeaderFieldsTooLarge, Type: openai.TypeInvalidRequest,
		Message: "The request's headers are larger than this gateway takes.",
	}},
	{`true`, openai.Error{
		Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest,
		Message: "The request is not valid HTTP, or has a header or a path that this gateway does not take.",
	}},
}

// requestTooLarge tells clients what they may send; operators know max_request_bytes.
func requestTooLarge(limit uint32) *openai.Error {
	return &openai.Error{
		Status: http.StatusRequestEntityTooLarge, Type: openai.TypeInvalidRequest, Code: openai.CodeTooLarge,
		Message: fmt.Sprintf("The request's body is larger than this gateway takes, which is %d bytes. Send less.", limit),
	}
}

// mapped replaces an answer of Envoy's. Its header x-weir-error-source tells
// extproc, which sees the answer on its way out, that it did not come from the
// upstream: the routes take that header off what upstreams send.
func mapped(expression string, e *openai.Error) *hcmv3.ResponseMapper {
	m := &hcmv3.ResponseMapper{
		Filter:     when(expression),
		StatusCode: wrapperspb.UInt32(uint32(e.Status)),
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			ContentType: "application/json",
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: formatOf(e)},
			}},
		},
	}
	for _, h := range e.Headers() {
		if h.Name != "content-type" {
			m.HeadersToAdd = append(m.HeadersToAdd, setHeader(h.Name, h.Value))
		}
	}
	return m
}

// formatOf is the body of an error as Envoy's format has it: all is text but the id
// of the request.
func formatOf(e *openai.Error) string {
	text := strings.ReplaceAll(string(e.Body()), "%", "%%")
	return strings.ReplaceAll(text, strings.ReplaceAll(requestID, "%", "%%"), requestID)
}

func when(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: typed(&celv3.ExpressionFilter{Expression: expression})},
		},
	}}
}
