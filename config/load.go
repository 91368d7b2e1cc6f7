package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Load reads and checks the file. The error, if any, holds a line for every
// problem. getenv looks up ${NAME}, and the variables that have the last word, such
// as PORT; os.LookupEnv is the usual one.
func Load(file string, getenv func(string) (string, bool)) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, text, info.Mode().Perm()&0o077 == 0, getenv)
}

// Parse is Load of a text that came from that file. private tells that only its
// owner can read it, so that secrets may stand in it.
func Parse(file string, text []byte, private bool, getenv func(string) (string, bool)) (*Config, error) {
	p := newProblems(file)
	msg := &configv1.Config{}
	if !p.unmarshal(text, msg) {
		return nil, p.err()
	}
	inline := inlineKeys(msg)
	p.expand(msg.ProtoReflect(), "", getenv)
	p.override(msg, getenv)
	p.validate(msg)
	p.checkTimezones(msg)
	cfg := fromProto(file, msg) // as far as it goes: all problems are to be told at once
	p.check(cfg)
	if !private {
		for _, path := range inline {
			p.addf(path, "a secret may stand in the file only if nobody else can read it: chmod 600 %s, or write ${NAME} and set that variable, or use key_file", file)
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// ParseKeyFile reads the text of a keys.yaml and checks it by the schema's
// rules and those of its limits. The error holds a line for every problem.
func ParseKeyFile(file string, text []byte) (*configv1.KeyFile, error) {
	p := newProblems(file)
	msg := &configv1.KeyFile{}
	if !p.unmarshal(text, msg) {
		return nil, p.err()
	}
	p.validate(msg)
	for i, k := range msg.GetKeys() {
		at := fmt.Sprintf("keys[%d].limits", i)
		p.timezones(at, k.GetLimits())
		p.checkLimits(at, Limits(k.GetLimits()))
	}
	return msg, p.err()
}

// At says where in the text of a file the trouble with a field is, such as keys[3].
func At(file string, text []byte, path string, trouble error) error {
	p := newProblems(file)
	if yaml.Unmarshal(text, &p.root) != nil {
		return fmt.Errorf("%s: %s: %w", file, path, trouble)
	}
	p.addf(path, "%v", trouble)
	return p.err()
}

// unmarshal reads text into msg. When unknown fields are its only fault the
// rest can still be checked, so that all problems are told at once.
func (p *problems) unmarshal(text []byte, msg proto.Message) bool {
	err := protoyaml.UnmarshalOptions{Path: p.file}.Unmarshal(text, msg)
	if err != nil {
		p.addYAML(err)
		proto.Reset(msg)
		err = protoyaml.UnmarshalOptions{Path: p.file, DiscardUnknown: true}.Unmarshal(text, msg)
	}
	if err == nil {
		err = yaml.Unmarshal(text, &p.root)
	}
	return err == nil
}

func (p *problems) validate(msg proto.Message) {
	var invalid *protovalidate.ValidationError
	switch err := protovalidate.Validate(msg); {
	case err == nil:
	case errors.As(err, &invalid):
		for _, v := range invalid.Violations {
			p.addf(protovalidate.FieldPathString(v.Proto.GetField()), "%s", v.Proto.GetMessage())
		}
	default:
		p.addf("", "%v", err)
	}
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} in every string of m.
func (p *problems) expand(m protoreflect.Message, path string, getenv func(string) (string, bool)) {
	str := func(path, s string) protoreflect.Value {
		return protoreflect.ValueOfString(variable.ReplaceAllStringFunc(s, func(ref string) string {
			value, ok := getenv(ref[2 : len(ref)-1])
			if !ok {
				p.addf(path, "the environment variable %s is not set", ref[2:len(ref)-1])
			}
			return value
		}))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := join(path, string(f.Name()))
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				at := fmt.Sprintf("%s[%q]", at, k.String())
				switch f.MapValue().Kind() {
				case protoreflect.MessageKind:
					p.expand(v.Message(), at, getenv)
				case protoreflect.StringKind:
					m.Mutable(f).Map().Set(k, str(at, v.String()))
				default: // numbers hold no text
				}
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				at := fmt.Sprintf("%s[%d]", at, i)
				switch f.Kind() {
				case protoreflect.MessageKind:
					p.expand(v.List().Get(i).Message(), at, getenv)
				case protoreflect.StringKind:
					v.List().Set(i, str(at, v.List().Get(i).String()))
				default: // numbers and enums hold no text
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			p.expand(v.Message(), at, getenv)
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, str(at, v.String()))
		}
		return true
	})
}

// inlineKeys lists the credentials that stand in the file itself.
func inlineKeys(msg *configv1.Config) (paths []string) {
	for i, u := range msg.GetUpstreams() {
		if u.GetKey() != "" && !variable.MatchString(u.GetKey()) {
			paths = append(paths, fmt.Sprintf("upstreams[%d].key", i))
		}
		for j, k := range u.GetKeys().GetList() {
			if !variable.MatchString(k.GetKey()) {
				paths = append(paths, fmt.Sprintf("upstreams[%d].keys.list[%d].key", i, j))
			}
		}
	}
	redis := msg.GetStore().GetRedis().GetUrl()
	if u, err := url.Parse(redis); err == nil && u.User != nil && !variable.MatchString(redis) {
		if _, ok := u.User.Password(); ok {
			paths = append(paths, "store.redis.url")
		}
	}
	return paths
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
