package keyfile

import (
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// written is the order in which the members of a new key are written.
var written = []protoreflect.Name{
	"id", "hash", "secret", "label", "user", "team", "plan", "models", "endpoints", "cidrs", "expires", "enabled", "limits", "metadata",
	"created", "revoked", "previous",
}

// nodeOf is a key as a node.
func nodeOf(k *configv1.Key) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	update(n, k)
	return n
}

// update has the node of a key say what k says. What says so already stays as it is
// written.
func update(n *yaml.Node, k *configv1.Key) {
	old := &configv1.Key{}
	m, before := k.ProtoReflect(), old.ProtoReflect()
	read(n, old)
	for _, name := range written {
		f := m.Descriptor().Fields().ByName(name)
		at := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c.Value == string(name) })
		for at > 0 && at%2 != 0 { // a value, not a name
			next := slices.IndexFunc(n.Content[at+1:], func(c *yaml.Node) bool { return c.Value == string(name) })
			if next < 0 {
				at = -1
				break
			}
			at += 1 + next
		}
		switch {
		case !m.Has(f):
			if at >= 0 {
				n.Content = slices.Delete(n.Content, at, at+2)
			}
		case at >= 0 && same(m, before, f):
		case at >= 0:
			v := value(f, m.Get(f))
			v.LineComment = n.Content[at+1].LineComment
			n.Content[at+1] = v
		default:
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: string(name)}, value(f, m.Get(f)))
		}
	}
}

// read is what a node says now; what cannot be read counts as changed.
func read(n *yaml.Node, k *configv1.Key) {
	keys, err := parse("", encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Value: "keys"}, {Kind: yaml.SequenceNode, Content: []*yaml.Node{n}},
	}}))
	if err == nil && len(keys) == 1 {
		proto.Merge(k, keys[0])
	}
}

func same(a, b protoreflect.Message, f protoreflect.FieldDescriptor) bool {
	return a.Has(f) == b.Has(f) && a.Get(f).Equal(b.Get(f))
}

// value is the value of a field as a node.
func value(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch {
	case f.IsMap():
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		var names []string
		v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			names = append(names, k.String())
			return true
		})
		slices.Sort(names)
		for _, name := range names {
			n.Content = append(n.Content, text(name), text(v.Map().Get(protoreflect.ValueOfString(name).MapKey()).String()))
		}
		return n
	case f.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for i := range v.List().Len() {
			n.Content = append(n.Content, single(f, v.List().Get(i)))
		}
		return n
	}
	return single(f, v)
}

func single(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch f.Kind() {
	case protoreflect.MessageKind:
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		fields := v.Message().Descriptor().Fields()
		for i := range fields.Len() {
			if sub := fields.Get(i); v.Message().Has(sub) {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: string(sub.Name())}, value(sub, v.Message().Get(sub)))
			}
		}
		return n
	case protoreflect.EnumKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: string(f.Enum().Values().ByNumber(v.Enum()).Name())}
	case protoreflect.StringKind:
		return text(v.String())
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}
	}
}

// text is a string, in quotes where it would be read as something else.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	var back any
	if yaml.Unmarshal([]byte(s), &back) != nil || back != s {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// Line is a key as an item of the list of a key file.
func Line(k *configv1.Key) []byte {
	n := nodeOf(k)
	n.Style = yaml.FlowStyle
	return item(n, 2)
}
