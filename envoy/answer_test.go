package envoy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/openai"
)

// stream is an event stream that the script reads, as Envoy hands it over.
type stream struct {
	vm     *lua.LState
	plan   string // of weir: pass or strip
	head   map[string]string
	chunks [][]byte
	out    [][]byte
	set    map[string]lua.LValue // dynamic metadata
	told   []string              // what weir was told
}

// runScript has the script read a stream that comes in those chunks.
func runScript(t testing.TB, plan string, chunks ...[]byte) *stream {
	t.Helper()
	return runScriptOn(t, plan, map[string]string{"content-type": "text/event-stream; charset=utf-8", ":status": "200"}, chunks...)
}

func runScriptOn(t testing.TB, plan string, head map[string]string, chunks ...[]byte) *stream {
	t.Helper()
	vm := lua.NewState()
	t.Cleanup(vm.Close)
	s := &stream{vm: vm, plan: plan, head: head, chunks: chunks, set: map[string]lua.LValue{}}
	if err := vm.DoString(envoy.AnswerScript()); err != nil {
		t.Fatal(err)
	}
	if err := vm.CallByParam(lua.P{Fn: vm.GetGlobal("envoy_on_response"), Protect: true}, s.handle()); err != nil {
		t.Fatal(err)
	}
	return s
}

// methods is an object that has them.
func (s *stream) methods(m map[string]lua.LGFunction) *lua.LTable {
	return s.vm.SetFuncs(s.vm.NewTable(), m)
}

// returning is a method that returns a value.
func returning(v lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		l.Push(v)
		return 1
	}
}

func (s *stream) handle() *lua.LTable {
	metadata := s.methods(map[string]lua.LGFunction{
		"get": func(l *lua.LState) int {
			t := l.NewTable()
			t.RawSetString(envoy.MetadataAnswer, lua.LString(s.plan))
			t.RawSetString(envoy.MetadataExchange, lua.LString("x.1"))
			l.Push(t)
			return 1
		},
		"set": func(l *lua.LState) int {
			s.set[l.CheckString(3)] = l.Get(4)
			return 0
		},
	})
	return s.methods(map[string]lua.LGFunction{
		"streamInfo": returning(s.methods(map[string]lua.LGFunction{"dynamicMetadata": returning(metadata)})),
		"headers": returning(s.methods(map[string]lua.LGFunction{"get": func(l *lua.LState) int {
			if v, ok := s.head[l.CheckString(2)]; ok {
				l.Push(lua.LString(v))
				return 1
			}
			return 0
		}})),
		"timestamp": returning(lua.LNumber(1795556832123)),
		"httpCall": func(l *lua.LState) int {
			s.told = append(s.told, l.CheckString(4))
			answer := l.NewTable()
			answer.RawSetString(":status", lua.LString("204"))
			l.Push(answer)
			return 1
		},
		"bodyChunks": s.bodyChunks,
	})
}

// bodyChunks is Envoy's iterator. All chunks have the same methods.
func (s *stream) bodyChunks(l *lua.LState) int {
	next := 0
	index := func(l *lua.LState) int { return int(lua.LVAsNumber(l.CheckTable(1).RawGetString("index"))) }
	methods := map[string]lua.LGFunction{
		"length": func(l *lua.LState) int {
			l.Push(lua.LNumber(len(s.chunks[index(l)])))
			return 1
		},
		"getBytes": func(l *lua.LState) int {
			from := l.CheckInt(2)
			l.Push(lua.LString(s.chunks[index(l)][from : from+l.CheckInt(3)]))
			return 1
		},
		"setBytes": func(l *lua.LState) int {
			s.out[index(l)] = []byte(l.CheckString(2))
			return 0
		},
	}
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if next == len(s.chunks) {
			return 0
		}
		s.out = append(s.out, s.chunks[next])
		chunk := s.methods(methods)
		chunk.RawSetString("index", lua.LNumber(next))
		next++
		l.Push(chunk)
		return 1
	}))
	return 1
}

func (s *stream) body() string { return string(bytes.Join(s.out, nil)) }

// notes are what weir was told.
func (s *stream) notes() gateway.Notes { return gateway.ParseNotes(strings.Join(s.told, "")) }

// usage is what weir's reader makes of the notes.
func (s *stream) usage() (openai.Usage, bool) {
	var events openai.EventStream
	for _, event := range s.notes().Usage {
		events.Write([]byte("data: "+event+"\n\n"), false)
	}
	return events.Usage()
}

// cutError is what ends a stream that is not complete.
func cutError() string { return "\n\ndata: " + string(openai.CutShort().Body()) + "\n\n" }

// byWeir is what weir's own reader says of a stream, and passes on.
func byWeir(plan string, body []byte) (out string, events *openai.EventStream) {
	events = &openai.EventStream{Strip: plan == envoy.AnswerStrip}
	b, _ := events.Write(body, true)
	out = string(b)
	if !events.Done() && !events.Finished() && !events.Failed() {
		out += cutError()
	}
	return out, events
}

// TestScriptReadsWhatWeirTakesItToRead goes through heads of answers: which of them the
// script reads, weir knows from the head alone.
func TestScriptReadsWhatWeirTakesItToRead(t *testing.T) {
	t.Parallel()
	types := []string{
		"", "text/event-stream", "text/event-stream; charset=utf-8", " Text/Event-Stream\t", "TEXT/EVENT-STREAM ;a", "text/event-stream;",
		"text/event-streams", "text/event-stream, text/event-stream", ",text/event-stream", "text/event-stream;a,text/event-stream",
		"application/json", "application/json; text/event-stream", "text/event stream",
	}
	none := "none"
	read := 0
	for _, kind := range types {
		for _, encoding := range []string{none, "", "identity", "gzip", "Identity", ",", "identity,identity"} {
			for _, status := range []int{200, 201, 204, 299, 300, 400, 500} {
				head := map[string]string{":status": strconv.Itoa(status)}
				if kind != "" {
					head["content-type"] = kind
				}
				h := gateway.Head{Status: status, ContentType: kind}
				if encoding != none {
					head["content-encoding"], h.Encoding = encoding, encoding
				}
				s := runScriptOn(t, envoy.AnswerPass, head, []byte("data: [DONE]\n\n"))
				if reads := len(s.told) > 0; reads != h.Streams() {
					t.Errorf("%v: the script reads it: %v, weir takes it to: %v", head, reads, h.Streams())
				} else if reads {
					read++
				}
			}
		}
	}
	if want := 6 * 3 * 4; read != want {
		t.Errorf("%d heads are read, want %d", read, want)
	}
}

// TestScriptReadsAsWeirDoes has every recorded stream read by both, cut at places of
// all kinds. Bytes, numbers and what is said of the end must be the same.
func TestScriptReadsAsWeirDoes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../openai/testdata/wire/*/*.sse")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recorded streams: %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, plan := range []string{envoy.AnswerPass, envoy.AnswerStrip} {
			want, events := byWeir(plan, body)
			usage, known := events.Usage()
			for _, size := range []int{1, 61, 1000, len(body)} {
				if size == 1 && len(body) > 3000 {
					continue // slow
				}
				s := runScript(t, plan, pieces(body, size)...)
				if s.body() != want {
					t.Errorf("%s, %s, in pieces of %d: the client gets %d bytes, want %d", file, plan, size, len(s.body()), len(want))
				}
				if u, ok := s.usage(); ok != known || u != usage {
					t.Errorf("%s, in pieces of %d: usage %+v %v, want %+v %v", file, size, u, ok, usage, known)
				}
				n := s.notes()
				if len(s.told) != 1 || n.Done != events.Done() || n.Finished != events.Finished() || n.Passed.Bytes != int64(len(body)) || n.Begun.UnixMilli() != 1795556832123 {
					t.Errorf("%s, in pieces of %d: weir is told %d times, and %+v", file, size, len(s.told), n)
				}
				if s.set[envoy.MetadataMetering] != lua.LString("settled") {
					t.Errorf("%s: metering is %v", file, s.set[envoy.MetadataMetering])
				}
			}
		}
	}
}

func pieces(body []byte, size int) (list [][]byte) {
	for len(body) > 0 {
		n := min(size, len(body))
		list, body = append(list, body[:n]), body[n:]
	}
	return append(list, nil) // Envoy ends most answers with an empty chunk
}

// FuzzScript cuts a stream in two or three, anywhere: the client gets the same bytes,
// and the same is noted. What is well-formed is read as weir reads it.
func FuzzScript(f *testing.F) {
	for _, seed := range []string{
		"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
		"data: {\"choices\": [ ], \"usage\" : {\"completion_tokens\":3}}\r\n\r\ndata: [DONE]\r\n\r\n",
		"data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\r\r\ndata: [DONE]\r\r",
		": comment\n\nevent: x\ndata: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]",
		"\uFEFFdata: [DONE]\n\n\n\n",
		"data: {\"choices\":[{\"index\":1,\"finish_reason\":\"stop\",\"text\":\"\\\"usage\\\":{\"}],\"usage\":{\"completion_tokens\":4}}\n\n",
		"\n\n\r\n\r\n\r\rdata: {}\n",
		"0\"content\":\"00\"0000\n\n\n",
		"000\ndata: [DONE] \n\r0",
		"\"content\":\"0\n\n\"\n\n",
		strings.Repeat("data: {\"content\":\"a\"}\n\n", 3) + "data: {\"content\":\"a\\\"\"}\n\ndata: {\"content\":\"\"}\n\ndata: {\"content\":\"a\"}\n\n",
	} {
		f.Add([]byte(seed), uint16(3), uint16(20), true)
		f.Add([]byte(seed), uint16(40), uint16(90), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, a, b uint16, strip bool) {
		plan := envoy.AnswerPass
		if strip {
			plan = envoy.AnswerStrip
		}
		i := int(a) % (len(body) + 1)
		j := i + int(b)%(len(body)-i+1)
		whole := runScript(t, plan, body)
		cut := runScript(t, plan, body[:i], body[i:j], body[j:])
		if whole.body() != cut.body() {
			t.Errorf("cut at %d and %d: %q, whole %q", i, j, cut.body(), whole.body())
		}
		// A LF that comes after its CR is not counted: the event had ended.
		within := func(at int) bool { return at > 0 && at < len(body) && body[at-1] == '\r' && body[at] == '\n' }
		if !slices.Equal(cut.told, whole.told) && !within(i) && !within(j) {
			t.Errorf("cut at %d and %d: weir is told %q, whole %q", i, j, cut.told, whole.told)
		}
		if !strip && !strings.HasPrefix(whole.body(), string(body)) {
			t.Errorf("%q became %q", body, whole.body())
		}
	})
}

// TestScriptLetsLongEventsPass sends events that are too long to read, in pieces: they
// are not held back for ever, and what comes after them is read again.
func TestScriptLetsLongEventsPass(t *testing.T) {
	t.Parallel()
	long := "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", 3<<20) + "\"}}]}\n\n"
	body := []byte(long + "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n")
	want, _ := byWeir(envoy.AnswerStrip, body)
	for _, size := range []int{1<<16 + 3, 1 << 20} {
		s := runScript(t, envoy.AnswerStrip, pieces(body, size)...)
		if s.body() != want {
			t.Errorf("in pieces of %d: %d bytes, want %d", size, len(s.body()), len(want))
		}
		if u, ok := s.usage(); !ok || u.Output != 2 {
			t.Errorf("in pieces of %d: usage %+v %v", size, u, ok)
		}
	}
}

// TestScriptTakesOutLikeEvents sends events alike that are all to be taken out, although
// they hold text.
func TestScriptTakesOutLikeEvents(t *testing.T) {
	t.Parallel()
	const event = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":1},\"text\":\"a\"}\n\n"
	s := runScript(t, envoy.AnswerStrip, []byte(event), []byte(event), []byte(event), []byte("data: [DONE]\n\n"), nil)
	if want := "data: [DONE]\n\n"; s.body() != want {
		t.Errorf("the client gets %q, want %q", s.body(), want)
	}
}

// TestScriptBearsLies sends what no server means: it must neither fail nor take long.
func TestScriptBearsLies(t *testing.T) {
	t.Parallel()
	const usage = `"usage":{"prompt_tokens":1,"completion_tokens":2}`
	for name, body := range map[string]string{
		"an index beyond all numbers": `data: {"choices":[{"index":` + strings.Repeat("9", 400) + `}],` + usage + "}\n\ndata: [DONE]\n\n",
		"objects that never end":      "data: {" + strings.Repeat(`"usage":{`, 100_000) + "\n\ndata: {\"choices\":[]," + usage + "}\n\ndata: [DONE]\n\n",
		"line ends in usage":          "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\ndata: \"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			s := runScript(t, envoy.AnswerPass, []byte(body))
			if took := time.Since(began); took > 20*time.Second { // minutes, if every object were looked for
				t.Errorf("it took %v", took)
			}
			if s.body() != body || len(s.told) != 1 || !s.notes().Done {
				t.Errorf("%d bytes of %d passed; weir was told %q", len(s.body()), len(body), s.told)
			}
		})
	}
}
