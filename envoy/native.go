package envoy

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-gateway/weir/openai"
)

const (
	filterLua = "envoy.filters.http.lua"

	clusterLog = "weir_log"
)

// answerScript reads event streams inside of Envoy.
//
//go:embed answer.lua
var answerScript string

// AnswerScript is the Lua code of the filter that reads natively metered answers. A
// stream that ends before it is complete ends with the error event cut.
func AnswerScript() string {
	cut := "\n\ndata: " + string(openai.CutShort().Body()) + "\n\n"
	return strings.NewReplacer("CUT", fmt.Sprintf("%q", cut), "CLUSTER", clusterExtProc).Replace(answerScript)
}

// luaFilter reads the usage of event streams, takes the event out that tells it where
// the client did not ask, and tells weir before the client sees the end.
func luaFilter() *hcmv3.HttpFilter {
	return filter(filterLua, true, typed(&luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: AnswerScript()}},
	}))
}

// departures tells weir of answers that were to be metered natively and did not reach
// their end: how much passed, and who left.
func departures() *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.http_grpc",
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{
			MetadataFilter: &accesslogv3.MetadataFilter{
				MatchIfKeyNotFound: wrapperspb.Bool(false),
				Matcher: &matcherv3.MetadataMatcher{
					Filter: MetadataSpace,
					Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: MetadataMetering}}},
					Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{
						StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: Native}},
					}},
				},
			},
		}},
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: typed(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName: "departures", GrpcService: service(clusterLog, 0), TransportApiVersion: corev3.ApiVersion_V3,
				// Without a buffer an entry is sent at once. Each time the interval is over every thread
				// wakes up to find that there is nothing to send.
				BufferSizeBytes: wrapperspb.UInt32(0), BufferFlushInterval: durationpb.New(10 * time.Second),
			},
		})},
	}
}
