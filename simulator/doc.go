// Package simulator is a scripted upstream: it speaks OpenAI's chat completions,
// completions, responses, embeddings, rerank, score and audio, and Anthropic's
// messages, as vLLM 0.32.0 does, byte for byte in shape, and generates text by a
// script instead of a model. It keeps a ledger of its own of what it really did.
//
// It is the demo model, the judge of truth in end-to-end tests (what the
// gateway billed is compared with the ledger) and the upstream of benchmarks.
//
// # Scripts
//
// A [Script] is text of comma-separated members, "tokens=128,pace=10ms". A model
// has one, and the request header x-simulate overrides its members one by one.
//
//	tokens=N        completion tokens per choice; 16, or for the texts answer
//	                and echo as many as the text has
//	pace=DURATION   between chunks; 0
//	ttft=DURATION   before the first token; 0
//	per=N           tokens per chunk; 1
//	text=KIND       lorem (default), answer, echo (the last user message)
//	usage=MODE      final (default), never, chunks, finish, zeros
//	done=no         no "data: [DONE]" at the end of a stream
//	fail=KIND[:N]   see below; none
//	retry_after=S   seconds in the Retry-After of a failing 429 or 503
//	pad=N           bytes of content added to each chunk
//	gzip=yes        content-encoding: gzip, though nobody asked
//
// A chunk is an event with generated text: the event with the role that opens a
// chat stream is none, nor are the usage event and [DONE]. With several choices
// each step sends one chunk for each. The finish_reason rides on a choice's last
// chunk. Chunk k (from 0) is sent at ttft + k × pace after the request arrived;
// a plain answer of k chunks is sent at ttft + k × pace.
//
// # Usage
//
// With final, a stream has usage as the request's stream_options ask: one event
// without choices before [DONE], and with continuous_usage_stats on every chunk
// too. The others do not ask: never sends none, even in plain answers; chunks
// sends running totals of its choice with each chunk, then the final event;
// finish sends it on each choice's last chunk only, for that choice; zeros sends
// zeros with each chunk, then the truth in the final event.
//
// Responses and messages report usage in their last events, whatever the request
// asks, or never. Embeddings, rerank and score have prompt tokens only: a query is
// counted with each text that it is compared with. Audio is counted in seconds, of
// 32 000 bytes of the file each, and in tokens in a stream of which usage is asked,
// 50 for each second.
//
// # Failures
//
// In a stream a failure comes in the place of chunk N (from 0), at its time; if
// there are fewer chunks, after the last of them and before usage and [DONE].
//
//	status:503  that status with vLLM's error body, at once
//	drop        end of the connection (FIN) before any header, at once
//	reset:N     TCP reset; reset:0 before any header, at once
//	close:N     end of the connection (FIN) amid the chunked body
//	end:N       a clean end of the body: no finish_reason, usage or [DONE]
//	garbage:N   one event that is not JSON, then it goes on
//	hang:N      nothing more until the client leaves; hang:0 not even headers
//	error:N     an error event as vLLM sends when its engine dies, then [DONE]
//	type        a JSON answer to a stream request
//
// The streams of responses and messages have no [DONE]: with done=no they lack their
// own last event, and with error they end in response.failed or in an error event.
//
// A plain answer fails when it was generated: reset, close, hang and end amid
// its body, garbage by a body that is not JSON, error by a 500. There too drop,
// reset:0 and hang:0 come at once and before any header.
//
// # Ledger
//
// Every request is an [Entry] of the [Ledger], but for those of /health and
// /_ledger. Other processes read it by GET /_ledger as a [Snapshot], with
// ?settle=2s after waiting so long for exchanges in flight to end, its sums alone
// by GET /_ledger/totals as [Totals], and empty it by POST /_ledger/reset.
package simulator
