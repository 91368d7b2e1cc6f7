package config

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Masked is the configuration in force as a message, for people: defaults are filled
// in, and of what the schema marks with debug_redact little shows.
func (c *Config) Masked() *configv1.Config {
	m := &configv1.Config{}
	if c.message != nil {
		m = proto.CloneOf(c.message)
	}
	mask(m.ProtoReflect())
	m.Listen, m.RunDir = c.Listen, c.RunDir
	if m.GetRequests() == nil {
		m.Requests = &configv1.Requests{}
	}
	m.Requests.MaxChoices, m.Requests.MaxLogprobs = c.Requests.MaxChoices, c.Requests.MaxLogprobs
	if m.GetEnvoy() == nil {
		m.Envoy = &configv1.Envoy{}
	}
	m.Envoy.MaxRequestBytes, m.Envoy.MaxConnections, m.Envoy.MaxHeapBytes = c.Envoy.MaxRequestBytes, c.Envoy.MaxConnections, c.Envoy.MaxHeapBytes
	return m
}

// Same tells whether two configurations say the same, secrets included.
func (c *Config) Same(other *Config) bool {
	return c.Listen == other.Listen && proto.Equal(c.message, other.message)
}

// userinfo is what stands before the host of a URL, which may hold a password with
// whatever in it.
var userinfo = regexp.MustCompile(`//.*@`)

// mask hides the secrets of m.
func mask(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := f.Options().(*descriptorpb.FieldOptions)
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					mask(v.Message())
					return true
				})
			}
		case f.IsList():
			for i := range v.List().Len() {
				if f.Message() != nil {
					mask(v.List().Get(i).Message())
				}
			}
		case f.Message() != nil:
			mask(v.Message())
		case options.GetDebugRedact():
			m.Set(f, protoreflect.ValueOfString(masked(v.String())))
		}
		return true
	})
}

// masked is a secret, or a URL that may hold one, as it may be shown.
func masked(secret string) string {
	if strings.Contains(secret, "://") {
		return userinfo.ReplaceAllString(secret, "//…@")
	}
	return Secret(secret).String()
}
