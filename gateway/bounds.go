package gateway

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
)

// bounds are what requests may ask for.
type bounds struct {
	choices, logprobs int64
	refused           openai.Extensions
}

func newBounds(c config.Bounds) bounds {
	b := bounds{
		choices:  cmp.Or(c.MaxChoices, config.DefaultMaxChoices),
		logprobs: cmp.Or(c.MaxLogprobs, config.DefaultMaxLogprobs),
		refused:  openai.AllExtensions,
	}
	for _, name := range c.Allow {
		b.refused &^= openai.ExtensionOf(name)
	}
	return b
}

// check refuses what is beyond them.
func (b *bounds) check(r *openai.Request) *openai.Error {
	tooMany := func(param, what string, n, most int64) *openai.Error {
		return &openai.Error{
			Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest, Code: openai.CodeInvalidValue, Param: param,
			Message: fmt.Sprintf("The request asks for %d %s; at most %d are allowed here. Lower '%s'.", n, what, most, param),
		}
	}
	switch {
	case r.N > b.choices:
		return tooMany("n", "choices", r.N, b.choices)
	case r.BestOf > b.choices:
		return tooMany("best_of", "choices", r.BestOf, b.choices)
	case r.Logprobs > b.logprobs:
		return tooMany("top_logprobs", "alternatives of each token", r.Logprobs, b.logprobs)
	}
	if name := (r.Extensions & b.refused).First(); name != "" {
		return &openai.Error{
			Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest, Code: openai.CodeUnsupported, Param: name,
			Message: "The parameter '" + name + "' is not for clients of this gateway to set. Leave it out, or have the operator allow it (requests.allow).",
		}
	}
	return nil
}

// salt keeps a tenant's prompts apart from those of others in the engine's cache, so
// that nobody can tell by the time of an answer what others have asked.
func (x *Exchange) salt() string {
	tenant := ""
	switch x.target.Server.CacheSalt {
	case config.SaltNone:
		return ""
	case config.SaltKey:
		tenant = "key/" + x.key.ID
	case config.SaltUser:
		tenant = "user/" + cmp.Or(x.key.User, "of key/"+x.key.ID)
	case config.SaltTeam:
		tenant = "team/" + cmp.Or(x.key.Team, "of key/"+x.key.ID)
	}
	digest := sha256.Sum256([]byte("weir cache salt of " + tenant))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}
