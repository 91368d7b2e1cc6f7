package simulator

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// sink is a client that costs nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}

// What a request costs in the simulator, and what it costs for each chunk.
func BenchmarkExchange(b *testing.B) {
	for _, script := range []string{"tokens=1", "tokens=1001", "text=answer"} {
		for name, members := range map[string]string{"stream": `"stream":true,`, "plain": ""} {
			b.Run(script+"/"+name, func(b *testing.B) {
				parsed, err := ParseScript(script)
				if err != nil {
					b.Fatal(err)
				}
				s := New(Options{KeepEntries: 100, Models: []Model{{Name: "m", Script: parsed}}})
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(`{`+members+hello+`}`))
					r.Header.Set("Content-Type", "application/json")
					s.ServeHTTP(&sink{http.Header{}}, r)
				}
			})
		}
	}
}
