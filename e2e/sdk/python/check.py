"""Drives weir with OpenAI's Python SDK and prints what the SDK made of it.

One JSON line per case: {"case": "plain", "ok": true, "detail": {…}}. "ok" says
that the call ended as such a call should; the facts in "detail" are for the
caller to judge. The programs for Node and Go beside this one print the same.
"""

import json
import os
import sys
import threading

import openai

SECONDS = 18  # for everything
PROMPT = "Tell me about rivers."
UNKNOWN_MODEL = "no-such-model"


def error_facts(e):
    response = getattr(e, "response", None)
    headers = response.headers if response is not None else {}
    return {
        "class": type(e).__name__,
        "message": str(getattr(e, "message", e)),
        "status": getattr(e, "status_code", None),
        "type": getattr(e, "type", None),
        "code": getattr(e, "code", None),
        "param": getattr(e, "param", None),
        "request_id": getattr(e, "request_id", None),
        "retry_after": headers.get("retry-after"),
    }


def usage_facts(usage):
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
    }


class Checks:
    def __init__(self, url, key, limited_key, model):
        self.model = model
        self.client = self.new_client(url, key)
        self.bad = self.new_client(url, "sk-nobody-has-this-key")
        self.limited = self.new_client(url, limited_key)

    @staticmethod
    def new_client(url, key):
        # No retries: the facts are those of the first answer.
        return openai.OpenAI(
            base_url=url,
            api_key=key,
            max_retries=0,
            timeout=10,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    def chat(self, client=None, **args):
        args = {"model": self.model, "messages": [{"role": "user", "content": PROMPT}], **args}
        return (client or self.client).chat.completions.create(**args)

    def plain(self):
        answer = self.chat()
        choice = answer.choices[0]
        return bool(choice.message.content), {
            "content": choice.message.content,
            "finish_reason": choice.finish_reason,
            **usage_facts(answer.usage),
        }

    def read(self, facts, **args):
        """Reads a stream into facts, which hold what came before an error too."""
        facts.update(text="", chunks=0, empty_choices=0, finish_reason=None, usage_seen=False, **usage_facts(None))
        for chunk in self.chat(stream=True, **args):
            facts["chunks"] += 1
            facts["usage_seen"] = facts["usage_seen"] or chunk.usage is not None
            facts.update(usage_facts(chunk.usage))  # the last chunk's stays
            if not chunk.choices:
                facts["empty_choices"] += 1
                continue
            facts["text"] += chunk.choices[0].delta.content or ""
            facts["finish_reason"] = chunk.choices[0].finish_reason or facts["finish_reason"]
        return facts

    def stream(self):
        facts = self.read({})
        return bool(facts["text"]), facts

    def stream_usage(self):
        facts = self.read({}, stream_options={"include_usage": True})
        return bool(facts["text"]), facts

    def completions(self):
        answer = self.client.completions.create(model=self.model, prompt=PROMPT)
        choice = answer.choices[0]
        return bool(choice.text), {
            "content": choice.text,
            "finish_reason": choice.finish_reason,
            **usage_facts(answer.usage),
        }

    def bad_key(self):
        return self.refused(client=self.bad)

    def rate_limit(self):
        return self.refused(client=self.limited)

    def not_found(self):
        return self.refused(model=UNKNOWN_MODEL)

    def refused(self, **args):
        try:
            self.chat(**args)
        except openai.APIStatusError as e:
            return True, error_facts(e)
        return False, {"message": "the call was not refused"}

    def models(self):
        ids = [m.id for m in self.client.models.list()]
        return self.model in ids, {"ids": ids, "retrieved": self.client.models.retrieve(self.model).id}

    def error_midstream(self):
        facts = {}
        try:
            self.read(facts, extra_headers={"x-simulate": "fail=error:3,tokens=10"})
        except openai.APIError as e:
            return True, {**facts, **error_facts(e)}
        return False, {**facts, "message": "the stream ended without an error"}


CASES = ["plain", "stream", "stream_usage", "completions", "bad_key", "rate_limit", "not_found", "models", "error_midstream"]


def main():
    values = [os.environ.get(name) for name in ("WEIR_URL", "WEIR_KEY", "WEIR_LIMITED_KEY", "WEIR_MODEL")]
    if not all(values) or len(sys.argv) > 1:
        print("usage: WEIR_URL=…/v1 WEIR_KEY=… WEIR_LIMITED_KEY=… WEIR_MODEL=… check.py", file=sys.stderr)
        return 2

    left = list(CASES)
    lock = threading.Lock()

    def report(case, ok, detail):
        with lock:
            if case in left:
                left.remove(case)
                print(json.dumps({"case": case, "ok": ok, "detail": detail}), flush=True)

    def out_of_time():
        for case in list(left):
            report(case, False, {"message": f"not finished after {SECONDS} s"})
        os._exit(0)

    timer = threading.Timer(SECONDS, out_of_time)
    timer.daemon = True
    timer.start()

    checks = Checks(*values)
    for case in CASES:
        try:
            ok, detail = getattr(checks, case)()
        except Exception as e:
            ok, detail = False, error_facts(e)
        report(case, ok, detail)
    timer.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(main())
