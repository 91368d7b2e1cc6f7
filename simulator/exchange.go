package simulator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// maxBody is the longest request body, in bytes.
const maxBody = 64 << 20

// errScripted ends an exchange that failed as its script says.
var errScripted = errors.New("scripted failure")

// exchange is one request with its answer. One goroutine owns it.
type exchange struct {
	sim   *Simulator
	w     http.ResponseWriter
	rc    *http.ResponseController
	r     *http.Request
	entry Entry // published to the ledger now and then

	script  Script
	req     *request
	choices []choice
	wire    wire
	pacer   pacer

	chunks int64 // events with generated text that were sent
	open   int   // choices without their last chunk
	abort  bool  // end the connection by a panic, for want of another way
}

// run answers the request and keeps the ledger.
func (x *exchange) run() {
	x.entry = newEntry(x.r)
	page := x.sim.ledger.begin(&x.entry)
	defer x.sim.ledger.finish(page, &x.entry)
	err := x.serve(page)
	if e, ok := errors.AsType[*refusal](err); ok {
		x.entry.Status = e.status
		e.write(x.w)
	}
	x.entry.Outcome = outcomeOf(err)
	if x.abort {
		panic(http.ErrAbortHandler)
	}
}

func outcomeOf(err error) Outcome {
	_, refused := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		return OutcomeComplete
	case refused:
		return OutcomeRefused
	case errors.Is(err, errScripted):
		return OutcomeFailed
	default:
		return OutcomeClientGone
	}
}

// serve answers the request. It fails with a refusal that is not written yet,
// with errScripted, or because the client left.
func (x *exchange) serve(page *page) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	if strings.HasPrefix(x.r.URL.Path, "/v1/") && !x.authorized() {
		return unauthorized()
	}
	if x.r.URL.Path == "/v1/models" {
		if x.r.Method != http.MethodGet {
			return badMethod()
		}
		return x.listModels()
	}
	prepare, media := x.handler()
	switch {
	case prepare == nil:
		return notFound()
	case x.r.Method != http.MethodPost:
		return badMethod()
	}
	return x.complete(page, body, prepare, media)
}

// readBody reads the request to its end, without which the server does not
// notice that a client leaves.
func (x *exchange) readBody() ([]byte, error) {
	var b bytes.Buffer
	if n := x.r.ContentLength; n > 0 && n <= maxBody {
		b.Grow(int(n) + bytes.MinRead) // or ReadFrom grows it at the end
	}
	n, err := b.ReadFrom(io.LimitReader(x.r.Body, maxBody+1))
	x.entry.BodyBytes = n
	if n > maxBody {
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, plain: `{"detail":"Content Too Large"}`}
	}
	if x.sim.keepBodies {
		x.entry.Body = b.Bytes()
	}
	return b.Bytes(), err
}

func (x *exchange) authorized() bool {
	if x.sim.keys != nil {
		return x.sim.keys[bearer(x.r.Header)] != nil
	}
	return x.sim.key == "" || bearer(x.r.Header) == x.sim.key
}

// handler returns what reads the requests to a path and plans their answers, and the
// content type it reads; nil if nothing is served there.
func (x *exchange) handler() (prepare func([]byte) error, media string) {
	switch x.r.URL.Path {
	case pathChat, pathCompletions, pathResponses, pathMessages:
		return x.prepareText, jsonType
	case pathEmbeddings, pathRerank, pathScore, pathCountTokens:
		return x.prepareNumbers, jsonType
	case pathTranscriptions, pathTranslations:
		return x.prepareAudio, "multipart/form-data"
	default:
		return nil, ""
	}
}

func (x *exchange) listModels() error {
	x.entry.Status = http.StatusOK
	x.w.Header().Set("Content-Type", "application/json")
	_, err := x.w.Write(x.sim.modelList)
	return err
}

// complete answers a request.
func (x *exchange) complete(page *page, body []byte, prepare func([]byte) error, want string) error {
	media, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || media != want {
		return &refusal{
			status: http.StatusBadRequest, kind: "Bad Request",
			message: "1 validation error:\n  Unsupported Media Type: Only '" + want + "' is allowed",
		}
	}
	if err := prepare(body); err != nil {
		return err
	}
	x.sim.ledger.update(page, &x.entry)
	switch {
	case x.script.Fail.early():
		return x.failEarly()
	case x.req.stream && x.script.Fail.Kind != FailType:
		return x.stream()
	default:
		return x.plain()
	}
}

// prepareText reads the body and decides what will be generated.
func (x *exchange) prepareText(body []byte) error {
	req, err := parseRequest(body, x.r.URL.Path)
	if err != nil {
		return err
	}
	x.req = req
	x.entry.MaxTokens, x.entry.IncludeUsage = req.max, req.usage
	x.entry.Prompt = promptTokens(req.prompts)
	model, err := x.choose(req)
	if err != nil {
		return err
	}
	if err := x.addChoices(model.Context); err != nil {
		return err
	}
	switch x.r.URL.Path {
	case pathResponses:
		x.wire = newResponseWire(&x.script, req, x.head(model.Name, "resp_"))
	case pathMessages:
		x.wire = newMessageWire(&x.script, x.head(model.Name, "chatcmpl-"))
	case pathChat:
		h := x.head(model.Name, "chatcmpl-")
		h.object, h.chunk = "chat.completion", "chat.completion.chunk"
		x.wire = newChoicesWire(true, &x.script, req, h)
	default:
		h := x.head(model.Name, "cmpl-")
		h.object, h.chunk = "text_completion", "text_completion"
		x.wire = newChoicesWire(false, &x.script, req, h)
	}
	return nil
}

// choose finds the model that a request names, and the script of its answer.
func (x *exchange) choose(req *request) (Model, error) {
	x.entry.Model, x.entry.Stream = req.model, req.stream
	model, err := x.sim.model(req.model)
	if err != nil {
		return Model{}, err
	}
	x.entry.Model = model.Name
	script := model.Script
	if key := x.sim.keys[bearer(x.r.Header)]; key != nil {
		if script, err = script.Override(key.next()); err != nil {
			return Model{}, badRequest("key", "%v", err)
		}
	}
	x.script, err = script.Override(strings.Join(x.r.Header.Values("X-Simulate"), ","))
	if err != nil {
		return Model{}, badRequest("", "header x-simulate: %v", err)
	}
	return model, nil
}

// addChoices adds n choices for each prompt. window is the model's context.
func (x *exchange) addChoices(window int64) error {
	if total := x.req.n * int64(len(x.req.prompts)); total > maxChoices {
		return badRequest("", "n must be at most %d, got %d.", maxChoices, total)
	}
	for _, p := range x.req.prompts {
		limit, err := x.req.fit(p, window)
		if err != nil {
			return err
		}
		for range x.req.n {
			x.choices = append(x.choices, newChoice(&x.script, p, int64(len(x.choices)), limit))
		}
	}
	x.open = len(x.choices)
	return nil
}

// head returns the members with which each object of the answer begins; prefix is
// that of its id.
func (x *exchange) head(model, prefix string) head {
	h := head{id: x.entry.RequestID, created: x.entry.Start.Unix(), model: model, prefix: prefix}
	if h.id == "" {
		h.id = randomID()
	}
	return h
}

// steps is how many times a chunk of each choice is generated.
func (x *exchange) steps() (n int64) {
	for i := range x.choices {
		n = max(n, x.choices[i].steps())
	}
	return n
}

// waitStep waits until it is time for step, or for the end if that is the number
// of steps. It fails if the client leaves before.
func (x *exchange) waitStep(step int64) error {
	at := x.entry.Start.Add(x.script.TTFT + time.Duration(step)*x.script.Pace)
	if err := x.pacer.until(x.r.Context(), at); err != nil {
		return fmt.Errorf("client left before step %d: %w", step, err)
	}
	return nil
}
