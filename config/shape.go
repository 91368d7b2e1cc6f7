package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	yamlv4 "go.yaml.in/yaml/v4" // for the places of its errors
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// unmarshal reads text into msg, as far as it goes: what has the wrong shape is told
// and left out, so that all problems are told at once. It fails if nothing can be read.
func (p *problems) unmarshal(text []byte, msg proto.Message) bool {
	if err := yaml.Unmarshal(text, &p.root); err != nil {
		p.addSyntax(text, err)
		return false
	}
	if len(p.root.Content) > 0 {
		p.shape(p.root.Content[0], msg.ProtoReflect().Descriptor(), "")
	}
	if err := decode(p.file, text, msg); err != nil && len(p.list) == 0 {
		p.addYAML(err)
		return false
	}
	return true
}

// decode is protoyaml's, which panics when it has an error to tell of a file with line
// breaks other than \n.
func decode(file string, text []byte, msg proto.Message) (err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = errors.New("the lines of the file end in other ways than a line feed: write it anew with those")
		}
	}()
	return protoyaml.UnmarshalOptions{Path: file, DiscardUnknown: true}.Unmarshal(text, msg)
}

// quoted are names in what the parser says, which may be of a secret.
var quoted = regexp.MustCompile(`'[^',]{2,}' `)

// addSyntax records what keeps text from being YAML. The newer parser knows where.
func (p *problems) addSyntax(text []byte, err error) {
	said := strings.TrimPrefix(err.Error(), "yaml: ")
	var place *yamlv4.LoadError
	if !errors.As(yamlv4.Unmarshal(text, &yamlv4.Node{}), &place) || place.Mark.Line == 0 {
		p.unreadable(0, 0, "is not YAML: "+said)
		return
	}
	at := place.Mark
	said = "is not YAML: " + quoted.ReplaceAllString(place.Message, "")
	switch next := at.Index; {
	case next < len(text) && text[next] == '\t':
		said += ": it is a tab, and YAML is indented with spaces"
	case next < len(text) && strings.ContainsRune("@`%", rune(text[next])):
		said += ": put the value in quotes"
	case place.ContextMsg != "" && place.ContextMark.Line > 0 && place.ContextMark.Line < at.Line:
		said += fmt.Sprintf(", %s that begins at line %d, column %d", place.ContextMsg, place.ContextMark.Line, place.ContextMark.Column)
	}
	p.unreadable(at.Line, at.Column, said)
}

var located = regexp.MustCompile(`^(\S*?):(\d+):(\d+):? (.*)$`)

// addYAML records what protoyaml found and shape did not. The lines of the file that it
// quotes are left out: a credential may stand in them.
func (p *problems) addYAML(err error) {
	for line := range strings.Lines(err.Error()) {
		if m := located.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			at, _ := strconv.Atoi(m[2])
			column, _ := strconv.Atoi(m[3])
			p.unreadable(at, column, m[4])
		}
	}
	if len(p.list) == 0 {
		first, _, _ := strings.Cut(err.Error(), "\n")
		p.unreadable(0, 0, first)
	}
}

// misshapen records that a field is of the wrong kind. What is in it, and what is said
// of the whole that it is part of, would only confuse.
func (p *problems) misshapen(node *yaml.Node, path, want string) {
	p.addAt(node, path, want+", not "+kindOf(node))
	p.broken[path] = true
	p.told[parent(path)] = true
}

func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode, yaml.DocumentNode:
	}
	if node.Value == "" || node.Tag == "!!null" {
		return "nothing"
	}
	return "a single value"
}

// parent is the path of what a field is part of.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// shape compares a mapping with the message that it is to be.
func (p *problems) shape(node *yaml.Node, m protoreflect.MessageDescriptor, path string) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // as if it were not there
	}
	if node.Kind != yaml.MappingNode {
		p.misshapen(node, path, "must be a mapping with the fields "+strings.Join(fieldNames(m), ", "))
		return
	}
	seen := map[protoreflect.Name]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		f := field(m, key.Value)
		if key.Kind != yaml.ScalarNode || f == nil {
			p.addAt(key, join(path, speakable(key.Value)), "unknown field; "+meant(key.Value, fieldNames(m)))
			p.told[path] = true
			continue
		}
		at := join(path, string(f.Name()))
		if first := seen[f.Name()]; first != nil {
			p.addAt(key, at, fmt.Sprintf("stands here twice, first at line %d: keep one of them", first.Line))
			continue
		}
		seen[f.Name()] = key
		p.fieldShape(node.Content[i+1], f, at)
	}
}

// field finds a field as protoyaml does, by either spelling.
func field(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByJSONName(name); f != nil {
		return f
	}
	return m.Fields().ByTextName(name)
}

func (p *problems) fieldShape(node *yaml.Node, f protoreflect.FieldDescriptor, path string) {
	switch {
	case f.IsList():
		if node.Kind != yaml.SequenceNode {
			p.misshapen(node, path, "must be a list, in [brackets] or with a dash before each item")
			return
		}
		for i, item := range node.Content {
			p.valueShape(item, f, fmt.Sprintf("%s[%d]", path, i))
		}
	case f.IsMap():
		if node.Kind != yaml.MappingNode {
			p.misshapen(node, path, "must be a mapping of names to values")
			return
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode {
				p.misshapen(key, path, "must have names that are plain text")
				return
			}
			p.valueShape(node.Content[i+1], f.MapValue(), fmt.Sprintf("%s[%q]", path, key.Value))
		}
	default:
		p.valueShape(node, f, path)
	}
}

func (p *problems) valueShape(node *yaml.Node, f protoreflect.FieldDescriptor, path string) {
	if f.Message() != nil {
		p.shape(node, f.Message(), path)
		return
	}
	want, ok := scalarShape(node, f)
	switch shown := p.shown(path, node); {
	case ok:
	case shown == "":
		p.misshapen(node, path, want)
	default:
		p.addAt(node, path, want+" (got "+shown+")")
		p.told[parent(path)] = true
	}
}

// scalarShape says what a single value must be, and whether it is.
func scalarShape(node *yaml.Node, f protoreflect.FieldDescriptor) (want string, ok bool) {
	scalar := node.Kind == yaml.ScalarNode
	switch f.Kind() {
	case protoreflect.BoolKind:
		return "must be true or false, without quotes", scalar && node.Tag == "!!bool" && (node.Value == "true" || node.Value == "false")
	case protoreflect.EnumKind:
		names := valueNames(f.Enum())
		return "must be one of " + strings.Join(names, ", "), scalar && slices.Contains(names, node.Value)
	case protoreflect.StringKind:
		return "must be text", scalar
	default: // the schema has whole numbers besides
		return "must be a whole number", scalar && isNumber(node, f)
	}
}

// isNumber asks protoyaml, which takes 8Mi and 1e6 too.
func isNumber(node *yaml.Node, f protoreflect.FieldDescriptor) bool {
	if n, err := strconv.ParseInt(node.Value, 10, 31); err == nil && n >= 0 {
		return true
	}
	text, err := yaml.Marshal(node.Value)
	if err != nil {
		return false
	}
	var like proto.Message
	switch f.Kind() {
	case protoreflect.Int64Kind:
		like = &wrapperspb.Int64Value{}
	case protoreflect.Uint64Kind:
		like = &wrapperspb.UInt64Value{}
	case protoreflect.Uint32Kind:
		like = &wrapperspb.UInt32Value{}
	default: // the schema has no other: a test sees to that
		return false
	}
	return protoyaml.Unmarshal(text, like) == nil
}

func fieldNames(m protoreflect.MessageDescriptor) (names []string) {
	for i := range m.Fields().Len() {
		names = append(names, string(m.Fields().Get(i).Name()))
	}
	return names
}

// valueNames are those of an enum but the first, which stands for none.
func valueNames(e protoreflect.EnumDescriptor) (names []string) {
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return names
}

// speakable is the name of an unknown field as it may be told: what is long or has
// digits may be a secret.
func speakable(name string) string {
	const short, long = 12, 24
	if len(name) > long || len(name) > short && strings.ContainsAny(name, "0123456789") || !utf8.ValidString(name) || strings.ContainsAny(name, "\n\r") {
		return Secret(name).String()
	}
	return name
}

// meant suggests the nearest of names, or tells them all.
func meant(name string, names []string) string {
	best, least := "", 1+max(min(len(name)/3, 2), len(name)/4)
	for _, n := range names {
		if d := distance(strings.ToLower(strings.ReplaceAll(name, "-", "_")), n); d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "there are: " + strings.Join(names, ", ")
}

// distance is how many letters must be changed, added or taken away (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
