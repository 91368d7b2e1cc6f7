package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// sessionLife is for how long the token need not be shown again.
	sessionLife = 12 * time.Hour
	// maxSessions bounds how many there are: those who know the token may make as many
	// as they like.
	maxSessions = 1000
	// maxTold bounds what waits to be told, and toldLife for how long.
	maxTold  = 20
	toldLife = 5 * time.Minute
)

// told is what a page says once, after a change.
type told struct {
	Text    string
	Bad     bool   // it did not work
	Secret  string // of a key, which nobody can be told again
	Pending string // why that key does not work yet
	at      time.Time
}

// session is an operator who has shown the token. It is guarded by the lock of sessions.
type session struct {
	expires time.Time
	mark    any // of the token that was shown
	told    map[string]told
}

// sessions are those of all operators, by the digests of their cookies: how long a
// look-up takes tells nothing of a cookie. The methods are safe for concurrent use.
type sessions struct {
	now  func() time.Time
	mark func() any // of the token in force

	mu   sync.Mutex // guards what follows
	open map[[sha256.Size]byte]*session
}

func newSessions(mark func() any) *sessions {
	return &sessions{now: time.Now, mark: mark, open: map[[sha256.Size]byte]*session{}}
}

// begin opens a session, and returns its secret name.
func (s *sessions) begin() string {
	name := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.open, func(_ [sha256.Size]byte, x *session) bool { return !s.good(x) })
	for d := range s.open {
		if len(s.open) < maxSessions {
			break
		}
		delete(s.open, d)
	}
	s.open[sha256.Sum256([]byte(name))] = &session{expires: s.now().Add(sessionLife), mark: s.mark(), told: map[string]told{}}
	return name
}

// good tells whether a session still holds: its time is not over, and the token is the
// one that was shown.
func (s *sessions) good(x *session) bool { return s.now().Before(x.expires) && x.mark == s.mark() }

// has tells whether there is a session of that name.
func (s *sessions) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(name) != nil
}

func (s *sessions) find(name string) *session {
	d := sha256.Sum256([]byte(name))
	x := s.open[d]
	if x != nil && !s.good(x) {
		delete(s.open, d)
		return nil
	}
	return x
}

// end closes a session.
func (s *sessions) end(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(name)))
}

// tell keeps what is to be told, and returns what it is asked for by; "" if the session
// is over.
func (s *sessions) tell(name string, t told) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.find(name)
	if x == nil {
		return ""
	}
	t.at = s.now()
	maps.DeleteFunc(x.told, func(_ string, old told) bool { return t.at.Sub(old.at) > toldLife })
	for id := range x.told {
		if len(x.told) < maxTold {
			break
		}
		delete(x.told, id)
	}
	id := rand.Text()
	x.told[id] = t
	return id
}

// hear takes what is to be told out.
func (s *sessions) hear(name, id string) (t told, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.find(name)
	if x == nil {
		return t, false
	}
	t, ok = x.told[id]
	delete(x.told, id)
	return t, ok && s.now().Sub(t.at) <= toldLife
}

// cookieName is another one on each port: browsers do not tell ports apart, and two
// replicas may be looked at through one address.
func cookieName(r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil && port != "" {
		return "weir_session_" + port
	}
	return "weir_session"
}

// nameIn is the session that a request names, "" if it names none.
func nameIn(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie has the browser keep a session's name, or forget it if it is empty.
func setCookie(w http.ResponseWriter, r *http.Request, name string) {
	c := &http.Cookie{
		Name: cookieName(r), Value: name, Path: root + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// A proxy may have taken the TLS off. Who claims so without one harms himself.
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
		MaxAge: int(sessionLife / time.Second),
	}
	if name == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
