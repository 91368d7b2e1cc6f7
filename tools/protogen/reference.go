package main

import (
	"fmt"
	"os"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// reference is a page that describes messages as people write them in YAML.
type reference struct {
	text strings.Builder
	done map[protoreflect.FullName]bool
}

const referenceIntro = `# Configuration reference

Every field of ` + "`weir.yaml`" + ` and of key files, generated from their [schema](../proto/weir/config/v1/config.proto). ` + "`weir check`" + ` names what is wrong, with line and column. A value may hold ` + "`${NAME}`" + `, the environment
variable of that name. Durations are such as ` + "`300ms`, `30s`, `1h`" + `. What the fields are for, with examples: [keys](keys.md), [limits](limits.md), [upstreams and models](upstreams.md), [usage](usage.md), [the edge](edge.md),
[admin](admin.md), [metrics](metrics.md).
`

// writeReference writes the page of the configuration, from the file that describes it.
func writeReference(file string, f protoreflect.FileDescriptor) error {
	r := &reference{done: map[protoreflect.FullName]bool{}}
	r.text.WriteString(referenceIntro)
	for _, root := range []struct{ message, title string }{{"Config", "weir.yaml"}, {"KeyFile", "Key files"}} {
		d := f.Messages().ByName(protoreflect.Name(root.message))
		if d == nil {
			return fmt.Errorf("%s has no message %s", f.Path(), root.message)
		}
		fmt.Fprintf(&r.text, "\n## %s\n\n", root.title)
		r.message(d)
	}
	return os.WriteFile(file, []byte(r.text.String()), 0o644)
}

// message writes the table of a message, and after it those of the messages it is made of.
func (r *reference) message(d protoreflect.MessageDescriptor) {
	r.done[d.FullName()] = true
	if c := comment(d); c != "" {
		fmt.Fprintf(&r.text, "%s\n\n", c)
	}
	r.text.WriteString("| field | type | |\n|---|---|---|\n")
	var parts []protoreflect.MessageDescriptor
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		text := comment(field)
		if e := valueOf(field).Enum(); e != nil {
			text += values(e)
		}
		if required(field) {
			text += " **Required.**"
		}
		fmt.Fprintf(&r.text, "| `%s` | %s | %s |\n", field.Name(), typeName(field), strings.ReplaceAll(text, "|", `\|`))
		if m := valueOf(field).Message(); m != nil && !r.done[m.FullName()] {
			r.done[m.FullName()] = true
			parts = append(parts, m)
		}
	}
	for _, m := range parts {
		fmt.Fprintf(&r.text, "\n### %s\n\n", m.Name())
		r.message(m)
	}
}

// valueOf is the field that tells the type of a list's items or a map's values.
func valueOf(f protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if f.IsMap() {
		return f.MapValue()
	}
	return f
}

// typeName is what people write into a field.
func typeName(f protoreflect.FieldDescriptor) string {
	name := scalar(valueOf(f))
	switch {
	case f.IsMap():
		return "map of names to " + name
	case f.IsList():
		return "list of " + name
	}
	return name
}

func scalar(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return fmt.Sprintf("[%s](#%s)", f.Message().Name(), strings.ToLower(string(f.Message().Name())))
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind, protoreflect.EnumKind:
		return "text"
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "number"
	default:
		return "integer"
	}
}

// values lists the words of an enum, as they are written in YAML.
func values(e protoreflect.EnumDescriptor) string {
	var b strings.Builder
	prefix := ""
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if v.Number() == 0 {
			prefix = strings.TrimSuffix(string(v.Name()), "UNSPECIFIED")
			continue
		}
		fmt.Fprintf(&b, " `%s`", strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix)))
		if c := comment(v); c != "" {
			fmt.Fprintf(&b, ": %s", c)
		}
	}
	return b.String()
}

// required tells whether the file is refused without the field.
func required(f protoreflect.FieldDescriptor) bool {
	options := &descriptorpb.FieldOptions{}
	raw, err := proto.Marshal(f.Options())
	if err != nil || proto.Unmarshal(raw, options) != nil {
		return false
	}
	rules, ok := proto.GetExtension(options, validate.E_Field).(*validate.FieldRules)
	return ok && (rules.GetRequired() || rules.GetRepeated().GetMinItems() > 0 && f.Parent().Name() == "Config")
}

// comment is what stands above a declaration, on one line.
func comment(d protoreflect.Descriptor) string {
	c := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	return strings.Join(strings.Fields(c), " ")
}
