package redisstore_test

import (
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

func TestMem(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	clock := storetest.NewClock()
	s, err := redisstore.NewVirtual(redisstore.Options{URL: shared.URL()}, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rpm, _ := ratelimit.NewLimit("key-rpm", ratelimit.Requests, 1000, time.Minute)
	tpm, _ := ratelimit.NewLimit("key-tpm", ratelimit.Tokens, 1e9, time.Minute)
	for i := range 14 * 5 {
		clock.Advance(time.Second)
		for j := range 5 {
			id := ratelimit.ID{Instance: 1 << 60, Seq: uint64(i*100 + j)}
			if _, err := s.Admit(t.Context(), id, []ratelimit.Charge{{Limit: rpm, Scope: "key:k_7f3a9c21", Cost: 1}, {Limit: tpm, Scope: "key:k_7f3a9c21", Cost: 1234}}, ratelimit.AdmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Log(shared.Do(t, "hgetall", "{weir0}:w:key:k_7f3a9c21"))
	t.Log(shared.Do(t, "object", "encoding", "{weir0}:w:key:k_7f3a9c21"))
	t.Log(shared.Do(t, "memory", "usage", "{weir0}:w:key:k_7f3a9c21"))
	t.Log(shared.Do(t, "memory", "usage", "{weir0}:q:"+ratelimit.ID{Instance: 1 << 60, Seq: 5}.String()))
	t.Log(shared.Do(t, "get", "{weir0}:q:"+ratelimit.ID{Instance: 1 << 60, Seq: 104}.String()))
}
