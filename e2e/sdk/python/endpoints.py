"""Drives weir's other endpoints with OpenAI's and Anthropic's Python SDKs.

It prints what the SDKs made of the answers, as check.py does: one JSON line per
case, {"case": "embeddings", "ok": true, "detail": {…}}.
"""

import json
import os
import sys

import anthropic
import openai

SECONDS = 10  # for each call
PROMPT = "Tell me about rivers."


class Checks:
    def __init__(self, url, key, limited_key, model):
        self.model = model
        client = openai.DefaultHttpxClient(trust_env=False)
        self.openai = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=SECONDS, http_client=client)
        self.anthropic, self.bad, self.limited = (
            anthropic.Anthropic(
                base_url=url.removesuffix("/v1"),
                api_key=k,
                max_retries=0,
                timeout=SECONDS,
                http_client=anthropic.DefaultHttpxClient(trust_env=False),
            )
            for k in (key, "sk-nobody-has-this-key", limited_key)
        )

    def embeddings(self):
        answer = self.openai.embeddings.create(model=self.model, input=["a b", "c"], dimensions=12)
        return [len(d.embedding) for d in answer.data] == [12, 12], {"input": answer.usage.prompt_tokens}

    def responses(self):
        answer = self.openai.responses.create(model=self.model, input=PROMPT)
        return bool(answer.output_text), {
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
            "finish_reason": answer.status,
        }

    def responses_stream(self):
        text, last = "", None
        for event in self.openai.responses.create(model=self.model, input=PROMPT, max_output_tokens=3, stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        usage = last.response.usage
        return bool(text), {"input": usage.input_tokens, "output": usage.output_tokens, "finish_reason": last.response.status}

    def responses_error(self):
        return self.raises(openai.APIError, lambda: list(
            self.openai.responses.create(
                model=self.model, input=PROMPT, stream=True, extra_headers={"x-simulate": "fail=end:2"}
            )
        ))

    def transcription(self):
        answer = self.openai.audio.transcriptions.create(model=self.model, file=("a.wav", b"\0" * 64_000))
        return bool(answer.text), {"seconds": answer.usage.seconds}

    def transcription_stream(self):
        # The model speaks vLLM's dialect, which this SDK reads as far as it goes.
        events = self.openai.audio.transcriptions.create(
            model=self.model, file=("a.wav", b"\0" * 64_000), stream=True
        )
        return len(list(events)) > 1, {}

    def message(self, client=None, **args):
        args = {"model": self.model, "max_tokens": 20, "messages": [{"role": "user", "content": PROMPT}], **args}
        return (client or self.anthropic).messages.create(**args)

    def messages(self):
        answer = self.message(system="Be kind.")
        return bool(answer.content[0].text), {
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
            "finish_reason": answer.stop_reason,
            "request_id": answer._request_id,
        }

    def messages_stream(self):
        with self.anthropic.messages.stream(
            model=self.model, max_tokens=4, messages=[{"role": "user", "content": PROMPT}]
        ) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        return bool(text), {
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
            "finish_reason": answer.stop_reason,
        }

    def count_tokens(self):
        answer = self.anthropic.messages.count_tokens(
            model=self.model, messages=[{"role": "user", "content": PROMPT}]
        )
        return True, {"input": answer.input_tokens}

    def messages_bad_key(self):
        return self.raises(anthropic.AuthenticationError, lambda: self.message(client=self.bad))

    def messages_rate_limit(self):
        return self.raises(anthropic.RateLimitError, lambda: self.message(client=self.limited))

    def messages_not_found(self):
        return self.raises(anthropic.NotFoundError, lambda: self.message(model="no-such-model"))

    def messages_error(self):
        return self.raises(
            anthropic.APIStatusError,
            lambda: list(self.message(stream=True, extra_headers={"x-simulate": "fail=end:2"})),
        )

    @staticmethod
    def raises(kind, call):
        try:
            call()
        except kind as e:
            return True, {
                "class": type(e).__name__,
                "message": str(e),
                "status": getattr(e, "status_code", None),
                "request_id": getattr(e, "request_id", None),
            }
        return False, {"message": "the call did not fail"}


CASES = [
    "embeddings", "responses", "responses_stream", "responses_error", "transcription", "transcription_stream",
    "messages", "messages_stream", "count_tokens",
    "messages_bad_key", "messages_rate_limit", "messages_not_found", "messages_error",
]  # fmt: skip


def main():
    checks = Checks(*(os.environ[name] for name in ("WEIR_URL", "WEIR_KEY", "WEIR_LIMITED_KEY", "WEIR_MODEL")))
    for case in CASES:
        try:
            ok, detail = getattr(checks, case)()
        except Exception as e:
            ok, detail = False, {"class": type(e).__name__, "message": str(e)}
        print(json.dumps({"case": case, "ok": ok, "detail": detail}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
