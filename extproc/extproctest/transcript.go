package extproctest

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// DescribeRequest is a message of Envoy's as a line of a transcript: its phase,
// the names of its headers or the length of its body, and whether it is the last.
func DescribeRequest(m *extprocv3.ProcessingRequest) string {
	switch r := m.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return "request_headers" + names(r.RequestHeaders.GetHeaders()) + eos(r.RequestHeaders.GetEndOfStream())
	case *extprocv3.ProcessingRequest_RequestBody:
		return fmt.Sprintf("request_body %d bytes%s", len(r.RequestBody.GetBody()), eos(r.RequestBody.GetEndOfStream()))
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return "response_headers" + names(r.ResponseHeaders.GetHeaders()) + eos(r.ResponseHeaders.GetEndOfStream())
	case *extprocv3.ProcessingRequest_ResponseBody:
		return fmt.Sprintf("response_body %d bytes%s", len(r.ResponseBody.GetBody()), eos(r.ResponseBody.GetEndOfStream()))
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return "request_trailers"
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		return "response_trailers"
	}
	return fmt.Sprintf("%T", m.GetRequest())
}

// DescribeResponse is a reply as a line of a transcript.
func DescribeResponse(m *extprocv3.ProcessingResponse) string {
	line := fmt.Sprintf("%T", m.GetResponse())
	switch r := m.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders:
		line = "request_headers" + changes(r.RequestHeaders.GetResponse())
	case *extprocv3.ProcessingResponse_RequestBody:
		line = "request_body" + changes(r.RequestBody.GetResponse())
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		line = "response_headers" + changes(r.ResponseHeaders.GetResponse())
	case *extprocv3.ProcessingResponse_ResponseBody:
		line = "response_body" + changes(r.ResponseBody.GetResponse())
	case *extprocv3.ProcessingResponse_ImmediateResponse:
		line = fmt.Sprintf("immediate_response %d", r.ImmediateResponse.GetStatus().GetCode())
	}
	if o := m.GetModeOverride(); o != nil {
		line += " body=" + o.GetResponseBodyMode().String()
	}
	return line
}

func eos(last bool) string {
	if last {
		return " end_of_stream"
	}
	return ""
}

func names(m *corev3.HeaderMap) string {
	var list []string
	for _, h := range m.GetHeaders() {
		list = append(list, h.GetKey())
	}
	slices.Sort(list)
	return " [" + strings.Join(list, " ") + "]"
}

func changes(c *extprocv3.CommonResponse) (text string) {
	h := c.GetHeaderMutation()
	if len(h.GetSetHeaders()) > 0 {
		var list []string
		for _, s := range h.GetSetHeaders() {
			list = append(list, s.GetHeader().GetKey())
		}
		text += " set [" + strings.Join(list, " ") + "]"
	}
	if len(h.GetRemoveHeaders()) > 0 {
		text += " remove [" + strings.Join(h.GetRemoveHeaders(), " ") + "]"
	}
	switch b := c.GetBodyMutation().GetMutation().(type) {
	case *extprocv3.BodyMutation_Body:
		text += fmt.Sprintf(" body %d bytes", len(b.Body))
	case *extprocv3.BodyMutation_ClearBody:
		text += " clear body"
	}
	if c.GetClearRouteCache() {
		text += " clear route cache"
	}
	return text
}
