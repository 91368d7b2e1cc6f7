package openai

import (
	"bytes"
	"math"
	"unicode"
	"unicode/utf8"
)

// maxModel is how many characters a model's name may have.
const maxModel = 256

// Request is what a gateway needs to know of a request's body. It keeps offsets
// into the body, not the body itself: PromptText and Apply are to be given the
// same bytes again.
type Request struct {
	Endpoint     Endpoint
	Model        string // "" when absent or null: the upstream would use its default
	Stream       bool
	MaxTokens    int64 // the most tokens of a choice, the largest of the members that say so; 0 when none is given
	N            int64 // choices asked for, 1 when not given
	BestOf       int64 // choices generated to take N of, 0 when not given
	Logprobs     int64 // alternatives of each token to be told, 0 when none
	IncludeUsage bool  // the client asked for usage itself: stream_options.include_usage is true
	Extensions   Extensions

	// Where in the body the members' values stand; the zero span is an absent
	// member, because offset 0 can belong to no value but the body's own.
	model, maxTokens       span
	maxCompletion          span // max_completion_tokens
	cacheSalt              span
	streamOptions          span // null or an object
	includeUsage           span // inside streamOptions
	prompt                 span // messages, prompt, input or documents, whichever the endpoint has
	chat                   span // messages in the place of an embedding's input
	query                  span // what documents are compared with
	system                 span // system or instructions
	tools, functions, form span // form is response_format or text

	body     span   // what is inside the outermost braces
	options  span   // what is inside the braces of streamOptions
	members  int    // of the body
	boundary string // of a form; there the spans are of its parts' contents
}

// PromptParam is the name of the member that carries the prompt, or most of it.
func (r *Request) PromptParam() string { return r.Endpoint.promptMember() }

// AsksForUsage tells whether the stream that the request asks for has no usage
// unless stream_options ask for it, and they do not.
func (r *Request) AsksForUsage() bool {
	return r.Stream && !r.IncludeUsage && r.Endpoint.usageOnRequest()
}

// ParseRequest checks the body of a request to ep and reads it. The good path
// allocates nothing but the model's name.
//
// It refuses whatever two JSON readers could take for different things: members
// given twice, known names in another case or with escapes, a byte order mark,
// invalid UTF-8 and all else that RFC 8259 does not allow; and members it needs
// to understand, when they are not of their type. Every refusal says what is
// wrong, at which byte, and what to do. Members it does not know, and the
// insides of those it need not understand, only have to be JSON.
func ParseRequest(ep Endpoint, body []byte) (Request, *Error) {
	p := parser{checker: checker{b: body}, r: Request{Endpoint: ep, N: 1}}
	if !p.document() {
		return Request{}, p.err
	}
	return p.r, nil
}

// parser reads the body's members into a Request.
type parser struct {
	checker
	r     Request
	names nameSet
}

// document reads the whole body.
func (p *parser) document() bool {
	if !p.begin() {
		return false
	}
	p.r.body.start = p.i + 1
	for more := p.open('}'); more; more = p.more('}') {
		if !p.member() {
			return false
		}
		p.param = span{}
	}
	p.r.members = p.names.n
	if p.err != nil {
		return false
	}
	p.r.body.end = p.i - 1
	if p.peek(); p.i < len(p.b) {
		return p.fail(CodeInvalidJSON, "There is more text after the JSON object, at byte %d. Send one object and nothing after it.", p.i)
	}
	return p.complete()
}

// begin checks what can be said of the body as a whole.
func (p *parser) begin() bool {
	if bytes.HasPrefix(p.b, []byte("\uFEFF")) {
		return p.fail(CodeInvalidJSON, "The request body begins with a byte order mark, at byte 0. Send UTF-8 without one.")
	}
	if !utf8.Valid(p.b) {
		return p.fail(CodeInvalidJSON, "The request body is not valid UTF-8 at byte %d. Encode it as UTF-8.", invalidUTF8(p.b))
	}
	p.peek()
	switch {
	case p.i == len(p.b):
		return p.fail(CodeInvalidJSON, "The request body is empty, at byte %d. Send a JSON object.", p.i)
	case p.b[p.i] != '{':
		r, _ := utf8.DecodeRune(p.b[p.i:])
		return p.fail(CodeInvalidJSON, "The request body must be a JSON object, but begins with %q at byte %d. Send an object.", r, p.i)
	}
	return true
}

// invalidUTF8 returns the offset of the first byte that is not valid UTF-8.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// member reads one member of the body.
func (p *parser) member() bool {
	at := p.i
	raw, ok := p.name()
	if !ok {
		return false
	}
	p.param = raw
	if p.names.n == maxMembers {
		return p.fail(CodeInvalidJSON, "The request has more than %d members at byte %d. Leave out those it does not need.", maxMembers, at)
	}
	m, ok := p.known(raw, &p.names)
	if !ok {
		return false
	}
	return p.memberValue(m)
}

// known returns which member the name is. It refuses a name that is already in
// names, and one that an upstream could take for a known name though it is not
// written as one.
func (p *parser) known(raw span, names *nameSet) (member, bool) {
	name := raw.of(p.b)
	m := knownMember(name)
	if m == unknownMember && !plainName(name) {
		if want, ok := misspelt(decodeString(name)); ok {
			return 0, p.fail(CodeInvalidValue, "The name of the member at byte %d is not written as '%s'. Write it in lower case and without escapes.", raw.start-1, want)
		}
	}
	if !names.add(name) {
		return 0, p.fail(CodeDuplicate, "Duplicate parameter '%s' at byte %d. Send it once.", p.paramName(), raw.start-1)
	}
	return m, true
}

// memberValue reads the value of m.
func (p *parser) memberValue(m member) bool {
	p.peek()
	start := p.i
	ok := false
	switch m {
	case memberModel:
		ok = p.model()
		p.r.model = span{start, p.i}
	case memberStream:
		ok = p.boolean(&p.r.Stream)
	case memberStreamOptions:
		ok = p.streamOptions()
		p.r.streamOptions = span{start, p.i}
	case memberMaxTokens, memberMaxCompletionTokens, memberMaxOutputTokens:
		ok = p.limit(m, start)
	case memberN:
		ok = p.choices(&p.r.N)
	case memberBestOf:
		ok = p.choices(&p.r.BestOf)
	case memberTopLogprobs, memberLogprobs:
		ok = p.logprobs(m)
	case memberExtension:
		ok = p.extension()
	case memberBackground:
		ok = p.background()
	default:
		if kind, what := p.r.Endpoint.reads(m); kind != "" {
			ok = p.prompt(kind, what)
			break
		}
		ok = p.value(1)
		p.note(m, span{start, p.i})
	}
	return ok
}

// note keeps where the value of a member stands that PromptText reads.
func (p *parser) note(m member, value span) {
	switch m {
	case memberTools:
		p.r.tools = value
	case memberFunctions:
		p.r.functions = value
	case memberResponseFormat:
		p.r.form = value
	case memberText:
		if p.r.Endpoint == Responses {
			p.r.form = value
		}
	case memberSystem:
		if p.r.Endpoint.Anthropic() {
			p.r.system = value
		}
	case memberInstructions:
		if p.r.Endpoint == Responses {
			p.r.system = value
		}
	default:
	}
}

// model reads the model's name.
func (p *parser) model() bool {
	start := p.i
	switch p.peek() {
	case 'n':
		return p.literal("null")
	case '"':
	default:
		return p.wrongType("a string")
	}
	if !p.str() {
		return false
	}
	name := p.b[start+1 : p.i-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = decodeString(name)
	}
	if !visible(name) {
		return p.fail(CodeInvalidValue, "Invalid value for 'model' at byte %d: expected 1 to %d visible characters without spaces. Send a model's name.", start, maxModel)
	}
	p.r.Model = string(name)
	return true
}

// visible reports whether name has 1 to 256 characters and shows all of them.
func visible(name []byte) bool {
	n := 0
	for i := 0; i < len(name); n++ {
		r, size := utf8.DecodeRune(name[i:])
		if n == maxModel || r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) {
			return false
		}
		i += size
	}
	return n > 0
}

// boolean reads true, false or null into v. Of vLLM's own reader it is known
// that 1 and "true" are true to it, so nothing else may pass.
func (p *parser) boolean(v *bool) bool {
	switch p.peek() {
	case 't':
		*v = true
		return p.literal("true")
	case 'f':
		return p.literal("false")
	case 'n':
		return p.literal("null")
	default:
		return p.wrongType("true, false or null")
	}
}

// integer reads a plain integer from 1 to 2³¹-1, or null, and raises v to it.
func (p *parser) integer(v *int64) bool { return p.integerFrom(1, v) }

// integerFrom reads a plain integer from least to 2³¹-1, or null, and raises v to it.
func (p *parser) integerFrom(least int64, v *int64) bool {
	start := p.i
	switch b := p.peek(); {
	case b == 'n':
		return p.literal("null")
	case b != '-' && !isDigit(b):
		return p.wrongType("an integer")
	case !p.number():
		return false
	}
	n, ok := parseInt(p.b[start:p.i], math.MaxInt32)
	if !ok || n < least {
		return p.fail(CodeInvalidValue, "Invalid value for '%s' at byte %d: expected an integer from %d to %d, but got %.24s. Correct it or leave it out.", p.paramName(), start, least, math.MaxInt32, p.b[start:p.i])
	}
	*v = max(*v, n)
	return true
}

// streamOptions reads the object of that name, or null.
func (p *parser) streamOptions() bool {
	switch p.peek() {
	case 'n':
		return p.literal("null")
	case '{':
	default:
		return p.wrongType("an object or null")
	}
	p.r.options.start = p.i + 1
	var names nameSet
	for more := p.open('}'); more; more = p.more('}') {
		if !p.streamOption(&names) {
			return false
		}
		p.option = span{}
	}
	p.r.options.end = p.i - 1
	return p.err == nil
}

// streamOption reads one member of stream_options.
func (p *parser) streamOption(names *nameSet) bool {
	at := p.i
	raw, ok := p.name()
	if !ok {
		return false
	}
	p.option = raw
	if names.n == maxOptions {
		return p.fail(CodeInvalidJSON, "'stream_options' has more than %d members at byte %d. Leave out those it does not need.", maxOptions, at)
	}
	if _, ok := p.known(raw, names); !ok {
		return false
	}
	if string(raw.of(p.b)) != "include_usage" {
		return p.value(2)
	}
	p.peek()
	start := p.i
	ok = p.boolean(&p.r.IncludeUsage)
	p.r.includeUsage = span{start, p.i}
	return ok
}

// wrongType refuses the next value, which is not of the type wanted, if it is a
// value at all.
func (p *parser) wrongType(want string) bool {
	var got string
	switch b := p.peek(); {
	case b == '{':
		got = "an object"
	case b == '[':
		got = "an array"
	case b == '"':
		got = "a string"
	case b == 't' || b == 'f':
		got = "a boolean"
	case b == 'n':
		got = "null"
	case b == '-' || isDigit(b):
		got = "a number"
	default:
		return p.value(1)
	}
	return p.fail(CodeInvalidType, "Invalid type for '%s' at byte %d: expected %s, but got %s. Send %[3]s.", p.paramName(), p.i, want, got)
}
