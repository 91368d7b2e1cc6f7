package extproctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/extproc"
	"github.com/weir-gateway/weir/h2loop"
)

// Header is a header of a request or an answer.
type Header struct{ Name, Value string }

// Exchange is what the two sides of Envoy do.
type Exchange struct {
	Request []Header // pseudo headers too
	Source  string   // the client's address and port; "": Envoy does not tell
	Body    []byte   // nil: the request ends with its headers
	Answer  *Answer  // nil: the client leaves before there is one
}

// Answer is what the upstream sends, and when it stops.
type Answer struct {
	Headers []Header // :status among them
	Chunks  [][]byte
	End     End
}

// End is how an answer ends.
type End uint8

// The ends.
const (
	Alone    End = iota // an empty last message, as for every upstream of HTTP/1.1
	Together            // with the last chunk, as for HTTP/2
	AtOnce              // with the headers: there is no body
	Gone                // not at all: the client left, or the upstream broke off
)

// Result is what came of an exchange.
type Result struct {
	Transcript  []string // a line per message sent or received
	Forwarded   bool     // the request went upstream
	Upstream    Message  // as the upstream got it
	Client      Message  // as the client got it
	Immediate   bool     // the server answered the client itself
	ServerError error    // why the server ended the call
}

// Message is one side's view of a request or an answer.
type Message struct {
	Headers []Header
	Body    []byte
}

// Get returns the value of a header, "" if there is none.
func (m *Message) Get(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// Process is the method of an ext_proc server.
type Process func(extproc.Call) h2loop.Receiver

// Run carries one exchange. It fails where Envoy would give up on the server.
func Run(ctx context.Context, server Process, x Exchange) (*Result, error) {
	d := &driver{pipe: newPipe(ctx, server), result: &Result{}}
	err := d.exchange(x)
	d.pipe.close()
	d.result.ServerError = d.pipe.failed
	return d.result, err
}

// driver is Envoy's part in one exchange.
type driver struct {
	pipe     *pipe
	result   *Result
	bodyMode filterv3.ProcessingMode_BodySendMode // of the answer
}

// errImmediate ends an exchange that the server has answered.
var errImmediate = errors.New("answered by the server")

func (d *driver) exchange(x Exchange) error {
	err := d.request(x)
	if err == nil && x.Answer != nil {
		err = d.answer(x.Answer)
	}
	if errors.Is(err, errImmediate) {
		return nil
	}
	return err
}

// request sends headers and the buffered body.
func (d *driver) request(x Exchange) error {
	d.result.Upstream = Message{Headers: slices.Clone(x.Request), Body: x.Body}
	first := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(x.Request), EndOfStream: x.Body == nil},
	}}
	if x.Source != "" {
		first.Attributes = map[string]*structpb.Struct{"envoy.filters.http.ext_proc": {
			Fields: map[string]*structpb.Value{envoy.AttributeSource: structpb.NewStringValue(x.Source)},
		}}
	}
	reply, err := d.ask(first)
	if err != nil {
		return err
	}
	if reply.GetRequestHeaders() == nil {
		return fmt.Errorf("reply to the request headers is %T", reply.GetResponse())
	}
	d.result.Upstream.apply(reply.GetRequestHeaders().GetResponse())
	if x.Body != nil {
		reply, err := d.ask(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: x.Body, EndOfStream: true},
		}})
		if err != nil {
			return err
		}
		if reply.GetRequestBody() == nil {
			return fmt.Errorf("reply to the request body is %T", reply.GetResponse())
		}
		d.result.Upstream.apply(reply.GetRequestBody().GetResponse())
	}
	d.result.Forwarded = true
	return d.checkLength()
}

// checkLength does as Envoy: a changed body whose content-length is wrong is an
// error.
func (d *driver) checkLength() error {
	u := &d.result.Upstream
	if length := u.Get("content-length"); length != "" && length != strconv.Itoa(len(u.Body)) {
		return fmt.Errorf("content-length %s of a body of %d bytes", length, len(u.Body))
	}
	return nil
}

// answer sends the answer's headers, and its body if it was asked for.
func (d *driver) answer(a *Answer) error {
	d.result.Client = Message{Headers: slices.Clone(a.Headers)}
	reply, err := d.ask(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: headerMap(a.Headers), EndOfStream: a.End == AtOnce},
	}})
	if err != nil {
		return err
	}
	if reply.GetResponseHeaders() == nil {
		return fmt.Errorf("reply to the response headers is %T", reply.GetResponse())
	}
	d.result.Client.apply(reply.GetResponseHeaders().GetResponse())
	d.bodyMode = reply.GetModeOverride().GetResponseBodyMode()
	for i, chunk := range a.Chunks {
		if err := d.chunk(chunk, a.End == Together && i == len(a.Chunks)-1); err != nil {
			return err
		}
	}
	if a.End == Alone {
		return d.chunk(nil, true)
	}
	return nil
}

// chunk passes a part of the answer on, by way of the server if it asked for it.
func (d *driver) chunk(p []byte, last bool) error {
	if d.bodyMode != filterv3.ProcessingMode_STREAMED {
		d.result.Client.Body = append(d.result.Client.Body, p...)
		return nil
	}
	reply, err := d.ask(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: p, EndOfStream: last},
	}})
	if err != nil {
		return err
	}
	if reply.GetResponseBody() == nil {
		return fmt.Errorf("reply to the response body is %T", reply.GetResponse())
	}
	part := Message{Body: p}
	part.apply(reply.GetResponseBody().GetResponse())
	d.result.Client.Body = append(d.result.Client.Body, part.Body...)
	return nil
}

// ask sends a message and waits for its reply.
func (d *driver) ask(m *extprocv3.ProcessingRequest) (*extprocv3.ProcessingResponse, error) {
	d.result.Transcript = append(d.result.Transcript, "> "+DescribeRequest(m))
	reply, err := d.pipe.ask(m)
	if err != nil {
		return nil, err
	}
	d.result.Transcript = append(d.result.Transcript, "< "+DescribeResponse(reply))
	if im := reply.GetImmediateResponse(); im != nil {
		d.result.Immediate = true
		d.result.Client = Message{Headers: []Header{{":status", strconv.Itoa(int(im.GetStatus().GetCode()))}}, Body: im.GetBody()}
		d.result.Client.mutate(im.GetHeaders())
		return nil, errImmediate
	}
	return reply, nil
}

// apply changes a message as a reply says.
func (m *Message) apply(c *extprocv3.CommonResponse) {
	m.mutate(c.GetHeaderMutation())
	switch b := c.GetBodyMutation().GetMutation().(type) {
	case *extprocv3.BodyMutation_Body:
		m.Body = bytes.Clone(b.Body)
	case *extprocv3.BodyMutation_ClearBody:
		if b.ClearBody {
			m.Body = nil
		}
	}
}

func (m *Message) mutate(h *extprocv3.HeaderMutation) {
	m.Headers = slices.DeleteFunc(m.Headers, func(have Header) bool { return slices.Contains(h.GetRemoveHeaders(), have.Name) })
	for _, s := range h.GetSetHeaders() {
		name, value := s.GetHeader().GetKey(), string(s.GetHeader().GetRawValue())
		m.Headers = slices.DeleteFunc(m.Headers, func(have Header) bool { return have.Name == name })
		m.Headers = append(m.Headers, Header{name, value})
	}
}

func headerMap(headers []Header) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for _, h := range headers {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: h.Name, RawValue: []byte(h.Value)})
	}
	return m
}
