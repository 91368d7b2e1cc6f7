package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"

	"buf.build/go/protovalidate"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Load reads and checks the file. The error, if any, holds a line for every
// problem. getenv looks up ${NAME}, and the variables that have the last word, such
// as PORT; os.LookupEnv is the usual one.
func Load(file string, getenv func(string) (string, bool)) (*Config, error) {
	cfg, err := Draft(file, getenv)
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// Draft is Load of a file that may have mistakes: beside their error, which is a
// [Mistakes], it returns what of the configuration can be read, nil if nothing can.
func Draft(file string, getenv func(string) (string, bool)) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return DraftOf(file, text, info.Mode().Perm()&0o077 == 0, getenv)
}

// Parse is Load of a text that came from that file. private tells that only its
// owner can read it, so that secrets may stand in it.
func Parse(file string, text []byte, private bool, getenv func(string) (string, bool)) (*Config, error) {
	cfg, err := DraftOf(file, text, private, getenv)
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// DraftOf is Draft of a text, as Parse is Load of one.
func DraftOf(file string, text []byte, private bool, getenv func(string) (string, bool)) (*Config, error) {
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
	cfg.source = p
	p.check(cfg)
	if !private {
		for _, path := range inline {
			p.addf(path, "a secret may stand in the file only if nobody else can read it: chmod 600 %s, or write ${NAME} and set that variable, or use key_file", file)
		}
	}
	return cfg, p.err()
}

// Report records a mistake of the field at path.
type Report func(path, format string, args ...any)

// ParseKeyFile reads the text of a keys.yaml and checks it by the schema's
// rules, those of its limits, and by check, which may be nil and is given the file as far
// as it can be read. The error holds a line for every problem.
func ParseKeyFile(file string, text []byte, check func(*configv1.KeyFile, Report)) (*configv1.KeyFile, error) {
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
	if check != nil {
		check(msg, p.addf)
	}
	return msg, p.err()
}

// MistakesIn says where in the text of a file, which may be JSON, the mistakes are that
// check finds.
func MistakesIn(file string, text []byte, check func(Report)) error {
	p := newProblems(file)
	// JSON may be indented with tabs, and YAML must not be: the places stay the same.
	if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("\t"), []byte(" ")), &p.root); err != nil {
		p.root = yaml.Node{} // then without places
	}
	check(p.addf)
	return p.err()
}

func (p *problems) validate(msg proto.Message) {
	var invalid *protovalidate.ValidationError
	switch err := protovalidate.Validate(msg); {
	case err == nil:
	case errors.As(err, &invalid):
		for _, v := range invalid.Violations {
			message := v.Proto.GetMessage()
			p.addf(protovalidate.FieldPathString(v.Proto.GetField()), "%s", or(plainer[message], message))
		}
	default:
		p.addf("", "%v", err)
	}
}

// plainer are sentences of protovalidate's own, as this schema's rules would say them.
var plainer = map[string]string{
	"value is required":                        "must be given",
	"must contain at least 1 item(s)":          "needs at least one item",
	"must contain at most 8 item(s)":           "may have 8 items at most",
	"must be at least 1 characters":            "must not be empty",
	"repeated value must contain unique items": "has an item twice",
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} in every string of m.
func (p *problems) expand(m protoreflect.Message, path string, getenv func(string) (string, bool)) {
	str := func(path, s string) protoreflect.Value {
		missing := false
		full := variable.ReplaceAllStringFunc(s, func(ref string) string {
			name := ref[2 : len(ref)-1]
			value, ok := getenv(name)
			if !ok {
				missing = true
				p.addf(path, "the environment variable %s is not set", name)
			}
			return value
		})
		if full != s && !missing {
			p.values[path] = origin{value: tellable(s, full)}
		}
		return protoreflect.ValueOfString(full)
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
