package dashboard

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// opened are sessions with a clock that stands still, of a token that can be changed.
func opened() (s *sessions, clock *time.Time, token *int) {
	now, mark := time.Unix(1000, 0), 1
	s = newSessions(func() any { return mark })
	s.now = func() time.Time { return now }
	return s, &now, &mark
}

func TestSessionEnds(t *testing.T) {
	s, clock, token := opened()
	a, b := s.begin(), s.begin()
	if a == b || !s.has(a) || !s.has(b) || s.has("") || s.has(a+"x") {
		t.Fatalf("sessions %q and %q", a, b)
	}
	s.end(a)
	if s.has(a) || !s.has(b) {
		t.Error("one that was ended goes on, or another one was")
	}
	*clock = clock.Add(sessionLife - time.Second)
	if !s.has(b) {
		t.Error("it ends too soon")
	}
	*clock = clock.Add(time.Second)
	if s.has(b) {
		t.Error("it does not end")
	}
	c := s.begin()
	*token = 2
	if s.has(c) {
		t.Error("it outlives the token")
	}
	if len(s.open) != 0 {
		t.Errorf("%d sessions are kept", len(s.open))
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s, _, _ := opened()
	for range 2 * maxSessions {
		s.begin()
	}
	if last := s.begin(); len(s.open) > maxSessions || !s.has(last) {
		t.Errorf("%d sessions", len(s.open))
	}
}

func TestToldOnce(t *testing.T) {
	s, clock, _ := opened()
	a, b := s.begin(), s.begin()
	id := s.tell(a, told{Text: "hello", Secret: "secret"})
	if _, ok := s.hear(b, id); ok {
		t.Error("another session hears it")
	}
	if got, ok := s.hear(a, id); !ok || got.Secret != "secret" {
		t.Errorf("heard %+v", got)
	}
	if _, ok := s.hear(a, id); ok {
		t.Error("it is told twice")
	}
	late := s.tell(a, told{Text: "hello"})
	*clock = clock.Add(toldLife + time.Second)
	if _, ok := s.hear(a, late); ok {
		t.Error("it is told late")
	}
	for range 10 * maxTold {
		late = s.tell(a, told{Text: "hello"})
	}
	if n := len(s.find(a).told); n > maxTold {
		t.Errorf("%d wait to be told", n)
	}
	if _, ok := s.hear(a, late); !ok {
		t.Error("the newest is forgotten")
	}
	if s.tell("nobody", told{}) != "" {
		t.Error("somebody without a session is told something")
	}
}

func TestCookie(t *testing.T) {
	for name, c := range map[string]struct {
		host, forwarded string
		tls             bool
		cookie          string
		secure          bool
	}{
		"plain":         {"127.0.0.1:9090", "", false, "weir_session_9090", false},
		"without port":  {"weir.example", "", false, "weir_session", false},
		"IPv6":          {"[::1]:9090", "", false, "weir_session_9090", false},
		"TLS":           {"weir.example", "", true, "weir_session", true},
		"TLS of others": {"weir.example", "https", false, "weir_session", true},
	} {
		r := httptest.NewRequest(http.MethodPost, "/dashboard/login", nil)
		r.Host = c.host
		r.Header.Set("X-Forwarded-Proto", c.forwarded)
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		setCookie(w, r, "name")
		cookies := w.Result().Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%s: %v", name, cookies)
		}
		got := cookies[0]
		if got.Name != c.cookie || got.Secure != c.secure || !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Path != "/dashboard/" || got.MaxAge != int(sessionLife.Seconds()) {
			t.Errorf("%s: %v", name, got)
		}
		r.AddCookie(got)
		if nameIn(r) != "name" {
			t.Errorf("%s: it is not found again", name)
		}
	}
}

func TestWithin(t *testing.T) {
	for next, want := range map[string]string{
		"/dashboard/keys?q=a&page=2":         "/dashboard/keys?q=a&page=2",
		"/dashboard/":                        "/dashboard/",
		"":                                   "/dashboard/",
		"/":                                  "/dashboard/",
		"//evil.example/dashboard/":          "/dashboard/",
		"https://evil.example/dashboard/":    "/dashboard/",
		"/dashboard/../pools":                "/dashboard/",
		"/dashboard/\\..\\..":                "/dashboard/",
		"\\\\evil.example/dashboard/":        "/dashboard/",
		"/dashboard/\r\nSet-Cookie:a=b":      "/dashboard/",
		"javascript:alert(1)//dashboard/":    "/dashboard/",
		"//user@evil.example/dashboard/keys": "/dashboard/",
	} {
		if got := within(next); got != want {
			t.Errorf("after %q one gets to %q, want %q", next, got, want)
		}
	}
}
