package config

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// problems gathers what is wrong with one file.
type problems struct {
	file string
	root yaml.Node
	list []problem
	told map[string]bool // paths that have a problem
}

func newProblems(file string) *problems {
	return &problems{file: file, told: map[string]bool{}}
}

type problem struct {
	line, column int
	text         string
}

// addf records a problem of the field at path, such as limits[0].requests.
// A field that has a problem already gets no second one of another kind.
func (p *problems) addf(path, format string, args ...any) {
	if p.told[path] && path != "" {
		return
	}
	p.told[path] = true
	text := fmt.Sprintf(format, args...)
	node := p.find(path)
	if path != "" {
		text = path + ": " + text
	}
	if node == nil {
		p.list = append(p.list, problem{text: p.file + ": " + text})
		return
	}
	if node.Kind == yaml.ScalarNode && node.Value != "" && !holdsSecret(path) {
		text += fmt.Sprintf(" (got %q)", node.Value)
	}
	p.list = append(p.list, problem{
		line: node.Line, column: node.Column,
		text: fmt.Sprintf("%s:%d:%d: %s", p.file, node.Line, node.Column, text),
	})
}

var located = regexp.MustCompile(`^(\S*?):(\d+):(\d+):? (.*)$`)

// addYAML records what protoyaml found. The lines of the file that it quotes
// are left out: a credential may stand in them.
func (p *problems) addYAML(err error) {
	for line := range strings.Lines(err.Error()) {
		m := located.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		at := problem{text: fmt.Sprintf("%s:%s:%s: %s", p.file, m[2], m[3], m[4])}
		at.line, _ = strconv.Atoi(m[2])
		at.column, _ = strconv.Atoi(m[3])
		p.list = append(p.list, at)
	}
	if len(p.list) == 0 {
		first, _, _ := strings.Cut(err.Error(), "\n")
		p.list = append(p.list, problem{text: p.file + ": " + first})
	}
}

// holdsSecret tells of fields whose value must not be quoted.
func holdsSecret(path string) bool {
	// In the place of a hash somebody may have written the secret.
	return strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".secret") || strings.HasSuffix(path, ".hash") || path == "store.redis.url"
}

func (p *problems) err() error {
	sort.SliceStable(p.list, func(i, j int) bool {
		a, b := p.list[i], p.list[j]
		return a.line < b.line || a.line == b.line && a.column < b.column
	})
	var errs []error
	for _, q := range p.list {
		errs = append(errs, errors.New(q.text))
	}
	return errors.Join(errs...)
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
