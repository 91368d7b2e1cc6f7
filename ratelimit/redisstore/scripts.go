package redisstore

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// The parts that scripts are made of.
var (
	//go:embed lua/time.lua
	timeLua string
	//go:embed lua/window.lua
	windowLua string
	//go:embed lua/plan.lua
	planLua string
	//go:embed lua/receipt.lua
	receiptLua string
	//go:embed lua/finish.lua
	finishLua string
	//go:embed lua/admit.lua
	admitLua string
	//go:embed lua/settle.lua
	settleLua string
	//go:embed lua/cancel.lua
	cancelLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/peek.lua
	peekLua string
)

// tick is how far the time that the server has noted may lag behind, in µs.
const tick = 100_000

// script is what one operation runs.
type script struct {
	name, text, sha string
}

// scripts are the operations; each has the parts that it needs, no more, since
// the server runs through all of them on every call.
type scripts struct {
	admit, settle, cancel, renew, peek *script
}

func newScripts(l lives) scripts {
	ms := func(d time.Duration) int64 { return (d + l.slack).Milliseconds() }
	constants := fmt.Sprintf("local TICK, SLACK, MAX = %d, %d, %d\n"+
		"local LEASE, RECEIPT, TOMBSTONE = %d, %d, %d\n"+
		"local LEASE_MS, RECEIPT_MS, TOMBSTONE_MS = '%d', '%d', '%d'\n",
		tick, l.slack.Milliseconds(), int64(ratelimit.MaxAmount),
		l.lease.Microseconds(), l.receipt.Microseconds(), l.tombstone.Microseconds(),
		ms(l.lease), ms(l.receipt), ms(l.tombstone))
	build := func(name string, parts ...string) *script {
		text := constants + strings.Join(parts, "\n")
		sum := sha1.Sum([]byte(text)) //nolint:gosec // as above
		return &script{name: name, text: text, sha: hex.EncodeToString(sum[:])}
	}
	return scripts{
		admit:  build("admit", timeLua, windowLua, planLua, admitLua),
		settle: build("settle", timeLua, windowLua, planLua, receiptLua, finishLua, settleLua),
		cancel: build("cancel", timeLua, windowLua, planLua, receiptLua, finishLua, cancelLua),
		renew:  build("renew", timeLua, receiptLua, renewLua),
		peek:   build("peek", timeLua, windowLua, planLua, peekLua),
	}
}
