package openai

// Endpoint is one of the API's endpoints.
type Endpoint uint8

// The endpoints this package can read.
const (
	Unknown Endpoint = iota
	ChatCompletions
	Completions
)

// EndpointOf returns the endpoint served at path, which must come without a
// query. The match is exact: what Unknown is returned for must not be forwarded
// as if it were one of the others.
func EndpointOf(path string) Endpoint {
	switch path {
	case "/v1/chat/completions":
		return ChatCompletions
	case "/v1/completions":
		return Completions
	default:
		return Unknown
	}
}

// String returns the endpoint's name as metrics label it.
func (e Endpoint) String() string {
	switch e {
	case ChatCompletions:
		return "chat_completions"
	case Completions:
		return "completions"
	default:
		return "unknown"
	}
}

// Path returns the path the endpoint is served at, "" for Unknown.
func (e Endpoint) Path() string {
	switch e {
	case ChatCompletions:
		return "/v1/chat/completions"
	case Completions:
		return "/v1/completions"
	default:
		return ""
	}
}

// Generates tells whether its answers are text, in choices.
func (e Endpoint) Generates() bool { return e == ChatCompletions || e == Completions }

// promptMember returns the name of the member that carries the prompt.
func (e Endpoint) promptMember() string {
	if e == ChatCompletions {
		return "messages"
	}
	return "prompt"
}
