package admin

import (
	"strings"

	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// PhaseWord tells people how far a request is: waiting, answering, streaming or ending.
func PhaseWord(x *adminv1.Exchange) string {
	switch x.GetPhase() {
	case adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING, adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING_NATIVELY:
		if x.GetStream() {
			return "streaming"
		}
		return "answering"
	case adminv1.ExchangePhase_EXCHANGE_PHASE_SETTLED:
		return "ending"
	case adminv1.ExchangePhase_EXCHANGE_PHASE_WAITING, adminv1.ExchangePhase_EXCHANGE_PHASE_UNSPECIFIED:
	}
	return "waiting"
}

// KeyStateWord tells people what may be done with a key: active, disabled, expired or
// revoked.
func KeyStateWord(s adminv1.KeyState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "KEY_STATE_"))
}
