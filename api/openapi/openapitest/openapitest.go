// Package openapitest holds answers against the description of the API.
package openapitest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// Description is a document to hold answers against.
type Description struct{ router routers.Router }

// Read reads a document, which has to be valid.
func Read(ctx context.Context, document []byte) (*Description, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	// Where things are is another matter.
	doc.Servers = nil
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	if err := doc.Validate(ctx, openapi3.EnableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("check the description: %w", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("read the paths of the description: %w", err)
	}
	return &Description{router}, nil
}

// Exchange is a request and its answer.
type Exchange struct {
	Method, Path, ContentType, Body string
	Status                          int
	Header                          http.Header
	Answer                          string
}

// Check tells what of an exchange is not as it is described. Requests that were refused
// as bad may be so; events are looked at no further.
func (d *Description) Check(ctx context.Context, x Exchange) error {
	req := httptest.NewRequestWithContext(ctx, x.Method, x.Path, bytes.NewReader([]byte(x.Body)))
	if x.Body != "" {
		req.Header.Set("Content-Type", x.ContentType)
	}
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", x.Method, x.Path, err)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, Route: route, PathParams: params,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true},
	}
	in.Options.ExcludeResponseBody = strings.HasPrefix(x.Header.Get("Content-Type"), "text/event-stream")
	if x.Status != http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
			return fmt.Errorf("%s %s: %w", x.Method, x.Path, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.Header, Body: io.NopCloser(bytes.NewReader([]byte(x.Answer))), Options: in.Options,
	}
	if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
		return fmt.Errorf("%s %s answers %d: %w", x.Method, x.Path, x.Status, err)
	}
	return nil
}
