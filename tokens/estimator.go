package tokens

import "sync"

// maxModels bounds the models that are learned about, at 20 kB each.
const maxModels = 256

// Estimator estimates tokens, and learns from what upstreams count. The zero value
// knows the prior. It is safe for concurrent use, and estimates take no lock.
type Estimator struct {
	models sync.Map // of *model by name
	adding sync.Mutex
	count  int // of models, guarded by adding
}

// model is what is known of one.
type model struct {
	prompts, completions learner
}

// Prompt is how many tokens a prompt has for a model.
func (e *Estimator) Prompt(name string, p *Prompt) int64 {
	return p.estimate(e.forPrompts(name))
}

// Completion is how many tokens a text has that a model has generated. A text that is
// not empty has at least one, and none has more than it has bytes.
func (e *Estimator) Completion(name string, text *Features) int64 {
	return text.estimate(e.forCompletions(name))
}

// taught is how many texts must have been counted before estimates of others are relied
// on.
const taught = 20

// Taught tells whether enough was counted to rely on estimates of a model's prompts, and
// of its completions.
func (e *Estimator) Taught(name string) (prompts, completions bool) {
	m, ok := e.models.Load(name)
	if !ok {
		return false, false
	}
	return m.(*model).prompts.rows.Load() >= taught, m.(*model).completions.rows.Load() >= taught
}

// LearnPrompt takes the upstream's count of a prompt. Prompts that are too short, or
// of which not all is text, teach nothing.
func (e *Estimator) LearnPrompt(name string, p *Prompt, count int64) {
	if p.Parts > 0 || p.TokenIDs > 0 || !teaches(count, p.estimate(e.forPrompts(name))) {
		return
	}
	e.model(name).prompts.learn(p.terms(), float64(count), &prior)
}

// LearnCompletion takes the upstream's count of a text that was generated, all of
// which must have been seen. The first begins with what prompts have taught.
func (e *Estimator) LearnCompletion(name string, text *Features, count int64) {
	initial := e.forCompletions(name)
	if count > text.bytes || !teaches(count, text.estimate(initial)) {
		return
	}
	e.model(name).completions.learn(text.terms(), float64(count), initial)
}

// teaches tells whether a count says something of the weights that led to an estimate.
func teaches(count, estimate int64) bool {
	return count >= leastTokens && count < implausible*estimate && estimate < implausible*count
}

func (e *Estimator) forPrompts(name string) *vector {
	if m, ok := e.models.Load(name); ok {
		return m.(*model).prompts.current(&prior)
	}
	return &prior
}

func (e *Estimator) forCompletions(name string) *vector {
	if m, ok := e.models.Load(name); ok {
		m := m.(*model)
		return m.completions.current(m.prompts.current(&prior))
	}
	return &prior
}

// model returns what is known of a model. When there are too many, any one is forgotten.
func (e *Estimator) model(name string) *model {
	if m, known := e.models.Load(name); known {
		return m.(*model)
	}
	e.adding.Lock()
	defer e.adding.Unlock()
	added, known := e.models.LoadOrStore(name, &model{})
	if known {
		return added.(*model)
	}
	if e.count++; e.count > maxModels {
		e.models.Range(func(other, _ any) bool {
			if other == name {
				return true
			}
			e.models.Delete(other)
			e.count--
			return false
		})
	}
	return added.(*model)
}
