package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"time"
)

// stream answers with events.
func (x *exchange) stream() error {
	defer x.pacer.stop()
	out, err := x.openStream()
	if err != nil {
		return err
	}
	for step := range x.steps() {
		if err := x.waitStep(step); err != nil {
			return err
		}
		if err := x.step(out); err != nil {
			return err
		}
	}
	return x.closeStream(out)
}

// openStream sends the headers, which vLLM does before the first token is there.
func (x *exchange) openStream() (*eventWriter, error) {
	x.entry.Status = http.StatusOK
	out := &eventWriter{w: x.w, rc: x.rc}
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	if x.script.Gzip {
		h.Set("Content-Encoding", "gzip")
		out.gzip = gzip.NewWriter(&out.packed)
	}
	x.w.WriteHeader(http.StatusOK)
	return out, x.rc.Flush()
}

// step sends the next chunk of each choice that is not over.
func (x *exchange) step(out *eventWriter) error {
	for i := range x.choices {
		c := &x.choices[i]
		if c.over {
			continue
		}
		if x.chunks == x.script.Fail.After {
			if err := x.failStream(out); err != nil {
				return err
			}
		}
		if err := x.sendChunk(out, c); err != nil {
			return err
		}
	}
	return nil
}

// sendChunk sends the next chunk of a choice, and before the first of all what
// opens the stream.
func (x *exchange) sendChunk(out *eventWriter, c *choice) error {
	if x.chunks == 0 {
		x.entry.FirstToken = time.Now()
		if err := x.wire.begin(x.choices, out.send); err != nil {
			return err
		}
	}
	count, last := c.next()
	if err := out.send(x.wire.chunk(c, count, last)); err != nil {
		return err
	}
	c.done += count
	x.entry.Completion += count
	x.chunks++
	if last {
		c.over = true
		x.open--
		x.entry.UsageSent = x.open == 0 && x.wire.ridesLast()
	}
	return nil
}

// closeStream sends what comes after the chunks.
func (x *exchange) closeStream(out *eventWriter) error {
	if err := x.failStream(out); err != nil {
		return err
	}
	sent, err := x.wire.end(&x.entry, !x.script.NoDone, out.send)
	x.entry.UsageSent = x.entry.UsageSent || sent
	if err != nil {
		return err
	}
	return out.close()
}

// eventWriter writes events, each as one chunk of the body.
type eventWriter struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	gzip   *gzip.Writer // nil: not compressed
	packed bytes.Buffer
}

// send writes an event and flushes it. It fails if the client left.
func (e *eventWriter) send(event []byte) error {
	if e.gzip != nil {
		e.packed.Reset()
		// A write to memory cannot fail.
		_, _ = e.gzip.Write(event)
		_ = e.gzip.Flush()
		event = e.packed.Bytes()
	}
	return e.flush(event)
}

func (e *eventWriter) flush(p []byte) error {
	if _, err := e.w.Write(p); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := e.rc.Flush(); err != nil {
		return fmt.Errorf("flush event: %w", err)
	}
	return nil
}

// close ends the body.
func (e *eventWriter) close() error {
	if e.gzip == nil {
		return nil
	}
	e.packed.Reset()
	_ = e.gzip.Close()
	return e.flush(e.packed.Bytes())
}
