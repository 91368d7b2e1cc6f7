package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Mistakes are what is wrong with one file, in the order of the file. Each is one
// line: file:line:column: field: what is wrong, what is wanted.
type Mistakes struct{ list []problem }

// Error is a line for each mistake.
func (m *Mistakes) Error() string {
	lines := make([]string, len(m.list))
	for i, q := range m.list {
		lines[i] = q.text
	}
	return strings.Join(lines, "\n")
}

// About tells whether a mistake is in the field at path, in something in it, or so that
// the whole file cannot be read.
func (m *Mistakes) About(path string) bool {
	return slices.ContainsFunc(m.list, func(q problem) bool {
		return q.unreadable || q.path == path || inside(q.path, path) || q.path != "" && inside(path, q.path)
	})
}

// inside tells whether path leads to something in the field at outer.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// problems gathers what is wrong with one file.
type problems struct {
	file   string
	root   yaml.Node
	list   []problem
	told   map[string]bool   // paths that have a problem
	broken map[string]bool   // paths of fields of the wrong kind, with nothing in them
	values map[string]origin // of paths whose value does not stand in the file as it is
}

// origin says where a value comes from: one variable of the environment, or several.
type origin struct {
	name  string // "" for several
	value string // "" if it must not be shown
	whole bool   // the variable alone is the value, whatever the file says
}

func newProblems(file string) *problems {
	return &problems{file: file, told: map[string]bool{}, broken: map[string]bool{}, values: map[string]origin{}}
}

type problem struct {
	file, path   string // "" for errors of other packages
	line, column int
	text         string
	unreadable   bool  // the file as a whole
	err          error // of another package
}

// addf records a problem of the field at path, such as limits[0].requests.
// A field that has a problem already gets no second one of another kind.
func (p *problems) addf(path, format string, args ...any) {
	if p.told[path] && path != "" || p.inBroken(path) {
		return
	}
	text := fmt.Sprintf(format, args...)
	if o, ok := p.values[path]; ok && o.whole {
		p.addVariable(path, o, text)
		return
	}
	node := p.find(path)
	if shown := p.shown(path, node); shown != "" {
		text += " (got " + shown + ")"
	}
	p.addAt(node, path, text)
}

// addAt records a problem of what stands at a node; nil is no place of the file.
func (p *problems) addAt(node *yaml.Node, path, text string) {
	p.told[path] = true
	q := problem{file: p.file, path: path}
	if path != "" {
		text = path + ": " + text
	}
	if node != nil {
		q.line, q.column = node.Line, node.Column
	}
	q.text = p.place(node) + text
	p.list = append(p.list, q)
}

// addVariable records a problem of the field at path whose value is a variable's.
func (p *problems) addVariable(path string, o origin, text string) {
	p.told[path] = true
	text = "environment variable " + o.name + ": " + text
	if o.value != "" {
		text += fmt.Sprintf(" (got %q)", o.value)
	}
	p.list = append(p.list, problem{file: p.file, path: path, text: text})
}

// place is where something stands, to be put before what is said of it. What is built
// into weir has no place.
func (p *problems) place(node *yaml.Node) string {
	switch {
	case p.file == "":
		return ""
	case node == nil:
		return p.file + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", p.file, node.Line, node.Column)
}

// shown is the value of a field as a message may quote it; "" if it may not, or is none.
func (p *problems) shown(path string, node *yaml.Node) string {
	if node == nil || node.Kind != yaml.ScalarNode || node.Value == "" || holdsSecret(path) {
		return ""
	}
	text := strconv.Quote(node.Value)
	if o := p.values[path]; o.value != "" {
		text += fmt.Sprintf(", which is %q", o.value)
	}
	return text
}

// says tells that a value comes from a variable, for messages that mention it.
func (p *problems) says(path string) string {
	if o := p.values[path]; o.whole {
		return " by the environment variable " + o.name
	}
	return ""
}

func (p *problems) inBroken(path string) bool {
	for outer := range p.broken {
		if path == outer || inside(path, outer) {
			return true
		}
	}
	return false
}

// unreadable records that the file as a whole cannot be read.
func (p *problems) unreadable(line, column int, text string) {
	q := problem{file: p.file, line: line, column: column, unreadable: true}
	q.text = p.place(&yaml.Node{Line: line, Column: column}) + text
	if line == 0 {
		q.text = p.place(nil) + text
	}
	p.list = append(p.list, q)
}

// holdsSecret tells of fields whose value must not be quoted.
func holdsSecret(path string) bool {
	// In the place of a hash somebody may have written the secret.
	return strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".secret") || strings.HasSuffix(path, ".hash") || path == "store.redis.url"
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return &Mistakes{sorted(p.list)}
}

// sorted has the problems of each file in the order of its lines, and files in the order
// in which they were looked at.
func sorted(list []problem) []problem {
	list, first := slices.Clone(list), map[string]int{}
	for i, q := range list {
		if _, ok := first[q.file]; !ok {
			first[q.file] = i
		}
	}
	slices.SortStableFunc(list, func(a, b problem) int {
		return cmp.Or(cmp.Compare(first[a.file], first[b.file]), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	return list
}

// Without leaves those mistakes out that drop tells of; it is nil if none is left.
func (m *Mistakes) Without(drop func(error) bool) error {
	list := slices.DeleteFunc(slices.Clone(m.list), func(q problem) bool { return q.err != nil && drop(q.err) })
	if len(list) == 0 {
		return nil
	}
	return &Mistakes{list}
}

// Unwrap are the errors of other packages among them.
func (m *Mistakes) Unwrap() (errs []error) {
	for _, q := range m.list {
		if q.err != nil {
			errs = append(errs, q.err)
		}
	}
	return errs
}

// Join puts errors together, those of one file in the order of its lines. It is nil if all of them are.
func Join(errs ...error) error {
	var list []problem
	for _, err := range errs {
		if m := (*Mistakes)(nil); errors.As(err, &m) {
			list = append(list, m.list...)
		} else if err != nil {
			list = append(list, problem{text: err.Error(), err: err})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &Mistakes{sorted(list)}
}

var step = regexp.MustCompile(`^(?:\.?([A-Za-z0-9_]+)|\[(\d+)\]|\["([^"]*)"\])`)

// find returns the node at path, or the deepest one on the way to it: a
// missing field is reported where it should stand.
func (p *problems) find(path string) *yaml.Node {
	if len(p.root.Content) == 0 {
		return nil
	}
	node := p.root.Content[0]
	for path != "" {
		m := step.FindStringSubmatch(path)
		if m == nil {
			break
		}
		path = path[len(m[0]):]
		next := child(node, m)
		if next == nil {
			break
		}
		node = next
	}
	return node
}

func child(node *yaml.Node, m []string) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if m[2] != "" {
		i, err := strconv.Atoi(m[2])
		if err != nil || node.Kind != yaml.SequenceNode || i >= len(node.Content) {
			return nil
		}
		return node.Content[i]
	}
	name := m[1] + m[3]
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name || camel(name) == node.Content[i].Value {
			return node.Content[i+1]
		}
	}
	return nil
}

// camel is the other spelling that the JSON form of the schema allows.
func camel(name string) string {
	parts := strings.Split(name, "_")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}
