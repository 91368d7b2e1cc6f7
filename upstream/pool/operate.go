package pool

// Reset makes keys healthy, whatever was learnt of them, and answers of how many
// there was something to forget. Keys are named by ID or label; no name is all of
// them. A key that is disabled stays so.
func (p *Pool) Reset(names ...string) int {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.unlock()
	slots := p.slots
	if len(names) > 0 {
		slots = nil
		for _, name := range names {
			if s := p.find(name); s != nil {
				slots = append(slots, s)
			}
		}
	}
	n := 0
	for _, s := range slots {
		if s.state != Healthy || !s.strikes[0].IsZero() {
			n++
		}
		p.heal(s, WhyOperator, now)
	}
	return n
}

// Disable takes a key, by ID or label, out of use until it is enabled. It answers
// false if there is none.
func (p *Pool) Disable(name string) bool { return p.setDisabled(name, true) }

// Enable ends Disable. What was learnt of the key holds.
func (p *Pool) Enable(name string) bool { return p.setDisabled(name, false) }

func (p *Pool) setDisabled(name string, disabled bool) bool {
	p.mu.Lock()
	defer p.unlock()
	s := p.find(name)
	if s == nil {
		return false
	}
	if s.disabled != disabled {
		before := s.shown()
		s.disabled = disabled
		p.publish(s, PartHand)
		p.tell(s, before, WhyOperator, false)
	}
	return true
}
