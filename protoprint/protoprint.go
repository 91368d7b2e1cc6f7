// Package protoprint prints messages for people and their scripts: as protojson does, by
// the names of the schema, but with 64-bit integers as the numbers that they are. The
// JSON form of messages has them as text, for languages whose numbers cannot hold them.
package protoprint

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// JSON is a message on one line. all has fields too that are not set.
func JSON(m proto.Message, all bool) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: all}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := object(&b, text, m.ProtoReflect().Descriptor()); err != nil {
		return nil, fmt.Errorf("print a message: %w", err)
	}
	return b.Bytes(), nil
}

// YAML is a message as its file would have it.
func YAML(m proto.Message) ([]byte, error) {
	text, err := JSON(m, false)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, fmt.Errorf("print a message: %w", err)
	}
	block(&node)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return nil, fmt.Errorf("print a message: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// block takes the style of JSON away. What is text stays so: a node's tag tells.
func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}

// object prints a message, whose JSON is an object, or something else for those that
// protobuf itself brings with it, such as times.
func object(b *bytes.Buffer, text json.RawMessage, m protoreflect.MessageDescriptor) error {
	return members(b, text, func(name string) (value, error) {
		f := m.Fields().ByTextName(name)
		if f == nil {
			return nil, fmt.Errorf("%s has no field %s", m.FullName(), name)
		}
		switch {
		case f.IsMap():
			return func(b *bytes.Buffer, text json.RawMessage) error {
				return members(b, text, func(string) (value, error) { return single(f.MapValue()), nil })
			}, nil
		case f.IsList():
			return func(b *bytes.Buffer, text json.RawMessage) error { return items(b, text, single(f)) }, nil
		}
		return single(f), nil
	})
}

// value prints what JSON has for a field.
type value func(*bytes.Buffer, json.RawMessage) error

// single is a value of a field that is no list and no map.
func single(f protoreflect.FieldDescriptor) value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return func(b *bytes.Buffer, text json.RawMessage) error { return object(b, text, f.Message()) }
	case protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Sint64Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return func(b *bytes.Buffer, text json.RawMessage) error {
			b.Write(bytes.Trim(text, `"`))
			return nil
		}
	default:
		return func(b *bytes.Buffer, text json.RawMessage) error { return json.Compact(b, text) }
	}
}

// members prints an object whose members of are for; what is none, as it is.
func members(b *bytes.Buffer, text json.RawMessage, of func(name string) (value, error)) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return json.Compact(b, text)
	}
	b.WriteByte('{')
	for first := true; dec.More(); first = false {
		if !first {
			b.WriteByte(',')
		}
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		show, err := of(name)
		if err != nil {
			return err
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		var member json.RawMessage
		if err := dec.Decode(&member); err != nil {
			return err
		}
		b.Write(append(quoted, ':'))
		if err := show(b, member); err != nil {
			return err
		}
	}
	return b.WriteByte('}')
}

func items(b *bytes.Buffer, text json.RawMessage, show value) error {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	b.WriteByte('[')
	for i, item := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := show(b, item); err != nil {
			return err
		}
	}
	return b.WriteByte(']')
}
