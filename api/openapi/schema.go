package openapi

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// reference is where the schema of a message stands, which is made if need be.
func (d *description) reference(m protoreflect.MessageDescriptor) object {
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`, "example": "86400s"}
	}
	name := strings.TrimPrefix(string(m.FullName()), "weir.")
	name = strings.Replace(name, ".v1.", ".", 1)
	if _, ok := d.schemas[name]; !ok {
		d.schemas[name] = object{} // it may stand within itself
		d.schemas[name] = d.message(m)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// message is a message in the JSON form of protobuf,
// <https://protobuf.dev/programming-guides/json/>. Members of their defaults are left
// out.
func (d *description) message(m protoreflect.MessageDescriptor) object {
	members := object{}
	fields := m.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		s := d.field(f)
		if says := d.notes[string(m.Name())+"."+string(f.Name())]; says != "" && s["$ref"] == nil {
			s["description"] = says
		}
		members[f.JSONName()] = s
	}
	return object{"type": "object", "additionalProperties": false, "properties": members}
}

func (d *description) field(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.single(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": d.single(f)}
	}
	return d.single(f)
}

func (d *description) single(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return d.reference(f.Message())
	case protoreflect.EnumKind:
		var names []string
		values := f.Enum().Values()
		for i := range values.Len() {
			names = append(names, string(values.Get(i).Name()))
		}
		return object{"type": "string", "enum": names}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "int64"} // JSON's numbers are too short
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "format": "byte"}
	}
	return object{}
}

var (
	block = regexp.MustCompile(`^(?:service|message|enum) (\w+) \{`)
	rpc   = regexp.MustCompile(`^\s+rpc (\w+)\(`)
	field = regexp.MustCompile(`^\s+[\w.<>, ]+ (\w+) = \d+[^;]*;\s*(?://\s*(.*))?$`)
)

// comments are those of a schema, by what they stand before, or behind.
func comments(source string) map[string]string {
	notes := map[string]string{}
	var pending []string
	within := ""
	note := func(name, behind string) {
		says := strings.Join(pending, " ")
		if behind != "" {
			says = behind
		}
		// "List tells of all keys." in Go's manner, "Tells of all keys." in people's.
		if rest, ok := strings.CutPrefix(says, name[strings.LastIndexByte(name, '.')+1:]+" "); ok {
			says = strings.ToUpper(rest[:1]) + rest[1:]
		}
		notes[name], pending = says, nil
	}
	for line := range strings.Lines(source) {
		line = strings.TrimRight(line, "\n")
		switch m := []string(nil); {
		case strings.HasPrefix(strings.TrimSpace(line), "//"):
			pending = append(pending, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "//")))
		case match(block, line, &m):
			within = m[1]
			note(within, "")
		case match(rpc, line, &m):
			note(within+"."+m[1], "")
		case match(field, line, &m):
			note(within+"."+m[1], m[2])
		default:
			pending = nil
		}
	}
	return notes
}

func match(re *regexp.Regexp, line string, m *[]string) bool {
	*m = re.FindStringSubmatch(line)
	return *m != nil
}
