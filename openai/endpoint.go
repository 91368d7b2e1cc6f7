package openai

// Endpoint is one of the API's endpoints.
type Endpoint uint8

// The endpoints this package can read.
const (
	Unknown Endpoint = iota
	ChatCompletions
	Completions
	Embeddings
	Rerank
	Score
	Responses
	Messages    // Anthropic's, as vLLM serves it
	CountTokens // the prompt of a Messages request, counted and not answered
	Transcriptions
	Translations

	endpointCount
)

// endpoints describes them, Unknown as the zero value.
var endpoints = [endpointCount]struct{ name, path string }{
	Unknown:         {name: "unknown"},
	ChatCompletions: {"chat_completions", "/v1/chat/completions"},
	Completions:     {"completions", "/v1/completions"},
	Embeddings:      {"embeddings", "/v1/embeddings"},
	Rerank:          {"rerank", "/v1/rerank"},
	Score:           {"score", "/v1/score"},
	Responses:       {"responses", "/v1/responses"},
	Messages:        {"messages", "/v1/messages"},
	CountTokens:     {"messages_count_tokens", "/v1/messages/count_tokens"},
	Transcriptions:  {"audio_transcriptions", "/v1/audio/transcriptions"},
	Translations:    {"audio_translations", "/v1/audio/translations"},
}

// Endpoints returns all endpoints but Unknown.
func Endpoints() []Endpoint {
	all := make([]Endpoint, 0, endpointCount-1)
	for e := Unknown + 1; e < endpointCount; e++ {
		all = append(all, e)
	}
	return all
}

// EndpointOf returns the endpoint served at path, which must come without a
// query. The match is exact: what Unknown is returned for must not be forwarded
// as if it were one of the others.
func EndpointOf(path string) Endpoint {
	for e := Unknown + 1; e < endpointCount; e++ {
		if endpoints[e].path == path {
			return e
		}
	}
	return Unknown
}

// String returns the endpoint's name as metrics label it.
func (e Endpoint) String() string { return endpoints[e].name }

// Operation returns what OpenTelemetry's GenAI conventions call it, and a name of that
// kind where they have none.
func (e Endpoint) Operation() string {
	switch e {
	case ChatCompletions, Responses, Messages:
		return "chat"
	case Completions:
		return "text_completion"
	default:
		return e.String()
	}
}

// Path returns the path the endpoint is served at, "" for Unknown.
func (e Endpoint) Path() string { return endpoints[e].path }

// Form tells whether requests are forms (multipart/form-data) instead of JSON.
func (e Endpoint) Form() bool { return e == Transcriptions || e == Translations }

// HasOutput tells whether answers are text that a model generates and that is
// counted in tokens.
func (e Endpoint) HasOutput() bool {
	switch e {
	case ChatCompletions, Completions, Responses, Messages:
		return true
	default:
		return false
	}
}

// streams tells whether an answer is streamed where the request asks for it.
func (e Endpoint) streams() bool { return e == Unknown || e.HasOutput() || e.Form() }

// Anthropic tells whether the endpoint speaks Anthropic's dialect: its errors have
// another shape, and its usage counts tokens read from the cache apart.
func (e Endpoint) Anthropic() bool { return e == Messages || e == CountTokens }

// usageOnRequest tells whether a stream reports usage only where the request asks
// for it in stream_options.
func (e Endpoint) usageOnRequest() bool { return e <= Completions }

// promptMember returns the name of the member that carries the prompt, or most of
// it.
func (e Endpoint) promptMember() string {
	switch e {
	case ChatCompletions, Messages, CountTokens:
		return "messages"
	case Embeddings, Responses:
		return "input"
	case Rerank:
		return "documents"
	case Score:
		return "text_2"
	case Transcriptions, Translations:
		return "file"
	default:
		return "prompt"
	}
}

// limitMember returns the name of the member that bounds an answer's tokens and is
// written where the client gave none; "" if there is none to write.
func (e Endpoint) limitMember() string {
	switch e {
	case Unknown, ChatCompletions, Completions, Messages:
		return "max_tokens"
	case Responses:
		return "max_output_tokens"
	default:
		return ""
	}
}

// salted tells whether vLLM takes a cache_salt there.
func (e Endpoint) salted() bool { return e == ChatCompletions || e == Completions || e == Responses }

// Generates tells whether its answers are text, in choices.
func (e Endpoint) Generates() bool { return e == ChatCompletions || e == Completions }
