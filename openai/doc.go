// Package openai speaks the wire formats of the endpoints that [Endpoints] lists,
// as vLLM, llama.cpp and OpenAI itself serve them: OpenAI's own, and Anthropic's
// messages.
//
// It reads four things, each with its own small scanner:
//
//   - requests: [ParseRequest] checks a body strictly and notes the few members
//     a gateway decides by, [ParseForm] does so with a form; [Request.Apply] changes
//     them by splicing, so every other byte reaches the upstream as the client sent
//     it;
//   - prompts: [Request.PromptText] hands out the text a model will read;
//   - answers: [EventStream] (text/event-stream) and [PlainAnswer] (JSON) read
//     usage from bytes that pass by, whatever their borders;
//   - errors: [Error] is the envelope clients see, in the dialect of what they asked
//     ([Error.For]); [NormalizeError] brings the many shapes upstreams send into it.
//
// # Strict on the way in, lenient on the way out
//
// The upstream reads requests with its own parser, usually Python's json: of
// two members with one name the last wins, names are case-sensitive and
// escapes in names are decoded. A gateway that reads the same bytes in another
// way can be made to approve one model and bill it while the engine runs
// another. So ParseRequest accepts only bodies that every JSON reader
// understands alike, and refuses the rest with a message that says where and
// why. Inside values it checks syntax and leaves the meaning to the upstream.
//
// Answers come from an upstream that is no attacker and must never be broken
// by the counting of tokens: their readers ignore what they do not understand.
//
// The package knows nothing of Envoy, tenants or limits.
package openai
