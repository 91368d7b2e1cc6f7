package extproc

import (
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
)

// exchangeNote is dynamic metadata that names the exchange, for what else Envoy will
// say of it, and tells what is to become of it; and, where an access log is written,
// whose it is. nil if there is nothing to say.
func (s *stream) exchangeNote(x *gateway.Exchange) *structpb.Struct {
	native, strip := x.Native()
	if !native && !x.Attempted() && !s.noted {
		return nil
	}
	note := map[string]*structpb.Value{envoy.MetadataExchange: structpb.NewStringValue(x.ID())}
	if s.noted {
		note[envoy.NoteKey] = structpb.NewStringValue(s.call.KeyID)
		note[envoy.NoteModel] = structpb.NewStringValue(x.Model())
		note[envoy.NoteUpstream] = structpb.NewStringValue(x.Upstream())
	}
	if native {
		answer := envoy.AnswerPass
		if strip {
			answer = envoy.AnswerStrip
		}
		note[envoy.MetadataAnswer] = structpb.NewStringValue(answer)
		note[envoy.MetadataMetering] = structpb.NewStringValue(envoy.Native)
	}
	if x.Attempted() {
		note[envoy.MetadataOrder] = groups(x.Order())
	}
	return spaced(note)
}

// tookNote has the access log tell what an exchange took.
func tookNote(x *gateway.Exchange) *structpb.Struct {
	took := x.Took()
	if took == nil {
		return nil
	}
	return spaced(map[string]*structpb.Value{
		envoy.NoteInput: structpb.NewNumberValue(float64(took.Input)), envoy.NoteOutput: structpb.NewNumberValue(float64(took.Output)),
	})
}

// order is dynamic metadata that tells where attempts go; nil if there is nothing to
// say.
func order(upstreams []string) *structpb.Struct {
	if upstreams == nil {
		return nil
	}
	return spaced(map[string]*structpb.Value{envoy.MetadataOrder: groups(upstreams)})
}

func spaced(note map[string]*structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		envoy.MetadataSpace: structpb.NewStructValue(&structpb.Struct{Fields: note}),
	}}
}

// groups is the form that Envoy's PriorityGroupClusterSpecifier reads.
func groups(upstreams []string) *structpb.Value {
	list := &structpb.ListValue{Values: make([]*structpb.Value, len(upstreams))}
	for i, name := range upstreams {
		list.Values[i] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"name": structpb.NewStringValue(name)}})
	}
	return structpb.NewListValue(list)
}
