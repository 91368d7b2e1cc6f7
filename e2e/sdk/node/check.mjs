// Drives weir with OpenAI's Node SDK and prints what the SDK made of it.
//
// One JSON line per case: {"case": "plain", "ok": true, "detail": {…}}. "ok"
// says that the call ended as such a call should; the facts in "detail" are for
// the caller to judge. The programs for Python and Go beside this one print the
// same.

import { writeSync } from "node:fs";
import OpenAI, { APIError } from "openai";

const seconds = 18; // for everything
const prompt = "Tell me about rivers.";
const unknownModel = "no-such-model";

const { WEIR_URL, WEIR_KEY, WEIR_LIMITED_KEY, WEIR_MODEL } = process.env;
if (!WEIR_URL || !WEIR_KEY || !WEIR_LIMITED_KEY || !WEIR_MODEL || process.argv.length > 2) {
  console.error("usage: WEIR_URL=…/v1 WEIR_KEY=… WEIR_LIMITED_KEY=… WEIR_MODEL=… node check.mjs");
  process.exit(2);
}

// No retries: the facts are those of the first answer.
const newClient = (apiKey) => new OpenAI({ baseURL: WEIR_URL, apiKey, maxRetries: 0, timeout: 10_000 });
const client = newClient(WEIR_KEY);

function errorFacts(e) {
  return {
    class: e?.constructor?.name ?? typeof e,
    message: e?.message ?? String(e),
    status: e?.status ?? null,
    type: e?.type ?? null,
    code: e?.code ?? null,
    param: e?.param ?? null,
    request_id: e?.requestID ?? null,
    retry_after: e?.headers?.get?.("retry-after") ?? null,
  };
}

const usageFacts = (usage) => ({
  prompt_tokens: usage?.prompt_tokens ?? null,
  completion_tokens: usage?.completion_tokens ?? null,
});

const chat = (params = {}, { by = client, ...options } = {}) =>
  by.chat.completions.create({ model: WEIR_MODEL, messages: [{ role: "user", content: prompt }], ...params }, options);

// read reads a stream into facts, which hold what came before an error too.
async function read(facts, params, options) {
  Object.assign(facts, { text: "", chunks: 0, empty_choices: 0, finish_reason: null, usage_seen: false }, usageFacts());
  for await (const chunk of await chat({ stream: true, ...params }, options)) {
    facts.chunks++;
    facts.usage_seen ||= chunk.usage != null;
    Object.assign(facts, usageFacts(chunk.usage)); // the last chunk's stays
    if (chunk.choices.length === 0) {
      facts.empty_choices++;
      continue;
    }
    facts.text += chunk.choices[0].delta.content ?? "";
    facts.finish_reason = chunk.choices[0].finish_reason ?? facts.finish_reason;
  }
  return facts;
}

async function refused(params, options) {
  try {
    await chat(params, options);
  } catch (e) {
    if (e instanceof APIError) return [true, errorFacts(e)];
    throw e;
  }
  return [false, { message: "the call was not refused" }];
}

const cases = {
  async plain() {
    const answer = await chat();
    const { message, finish_reason } = answer.choices[0];
    return [!!message.content, { content: message.content, finish_reason, ...usageFacts(answer.usage) }];
  },

  async stream() {
    const facts = await read({});
    return [!!facts.text, facts];
  },

  async stream_usage() {
    const facts = await read({}, { stream_options: { include_usage: true } });
    return [!!facts.text, facts];
  },

  async completions() {
    const answer = await client.completions.create({ model: WEIR_MODEL, prompt });
    const { text, finish_reason } = answer.choices[0];
    return [!!text, { content: text, finish_reason, ...usageFacts(answer.usage) }];
  },

  bad_key: () => refused({}, { by: newClient("sk-nobody-has-this-key") }),

  rate_limit: () => refused({}, { by: newClient(WEIR_LIMITED_KEY) }),

  not_found: () => refused({ model: unknownModel }),

  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    const retrieved = await client.models.retrieve(WEIR_MODEL);
    return [ids.includes(WEIR_MODEL), { ids, retrieved: retrieved.id }];
  },

  async error_midstream() {
    const facts = {};
    try {
      await read(facts, {}, { headers: { "x-simulate": "fail=error:3,tokens=10" } });
    } catch (e) {
      if (e instanceof APIError) return [true, { ...facts, ...errorFacts(e) }];
      return [false, { ...facts, ...errorFacts(e) }];
    }
    return [false, { ...facts, message: "the stream ended without an error" }];
  },
};

const left = new Set(Object.keys(cases));

function report(name, ok, detail) {
  if (left.delete(name)) writeSync(1, JSON.stringify({ case: name, ok, detail }) + "\n");
}

setTimeout(() => {
  for (const name of left) report(name, false, { message: `not finished after ${seconds} s` });
  process.exit(0);
}, seconds * 1000);

for (const [name, run] of Object.entries(cases)) {
  let ok, detail;
  try {
    [ok, detail] = await run();
  } catch (e) {
    [ok, detail] = [false, errorFacts(e)];
  }
  report(name, ok, detail);
}
process.exit(0);
