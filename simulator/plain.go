package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// plain answers with one object.
func (x *exchange) plain() error {
	defer x.pacer.stop()
	if err := x.generate(); err != nil {
		return err
	}
	switch x.script.Fail.Kind {
	case FailNone, FailType:
		return x.sendPlain()
	default:
		return x.failPlain()
	}
}

// generate takes the time that the tokens take. If the client leaves meanwhile,
// the entry has those that were generated until then.
func (x *exchange) generate() error {
	if err := x.waitStep(0); err != nil {
		return err
	}
	x.entry.FirstToken = time.Now()
	steps := x.steps()
	err := x.waitStep(steps)
	if err != nil {
		steps = x.stepsSince(x.entry.FirstToken)
	}
	for i := range x.choices {
		x.entry.Completion += x.choices[i].generated(steps)
	}
	return err
}

// stepsSince is how many steps were generated since the first token.
func (x *exchange) stepsSince(first time.Time) int64 {
	if x.script.Pace == 0 {
		return x.steps()
	}
	return int64(time.Since(first) / x.script.Pace)
}

// sendPlain sends the answer.
func (x *exchange) sendPlain() error {
	body, mime, usage := x.plainBody()
	x.plainHeader(len(body), mime)
	if _, err := x.w.Write(body); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	x.entry.UsageSent = usage
	return nil
}

// sendHalf sends the first half of the answer, of which the length is announced
// or not.
func (x *exchange) sendHalf(announce bool) error {
	body, mime, _ := x.plainBody()
	length := -1
	if announce {
		length = len(body)
	}
	x.plainHeader(length, mime)
	if _, err := x.w.Write(body[:len(body)/2]); err != nil {
		return fmt.Errorf("write half of the answer: %w", err)
	}
	return x.rc.Flush()
}

// plainHeader sends the headers; a negative length is not announced.
func (x *exchange) plainHeader(length int, mime string) {
	x.entry.Status = http.StatusOK
	h := x.w.Header()
	h.Set("Content-Type", mime)
	if length >= 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	if x.script.Gzip {
		h.Set("Content-Encoding", "gzip")
	}
	x.w.WriteHeader(http.StatusOK)
}

func (x *exchange) plainBody() (body []byte, mime string, usage bool) {
	body, mime, usage = x.wire.plain(x.choices, &x.entry)
	if !x.script.Gzip {
		return body, mime, usage
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	// A write to memory cannot fail.
	_, _ = z.Write(body)
	_ = z.Close()
	return b.Bytes(), mime, usage
}
