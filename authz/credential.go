package authz

import (
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/openai"
)

// maxSecret bounds a credential, in bytes: a longer one is nobody's.
const maxSecret = 512

// credential finds the one secret that the headers hold.
func credential(headers []*corev3.HeaderValue) (string, *openai.Error) {
	secret, found := "", false
	for _, h := range headers {
		s, is := secretIn(h)
		switch {
		case !is:
			continue
		case found && s != secret:
			return "", malformed("Your request names two different API keys. Send one, as \"Authorization: Bearer KEY\".")
		}
		secret, found = s, true
	}
	switch {
	case !found:
		return "", malformed("You didn't provide an API key. Send it in the Authorization header, as \"Authorization: Bearer KEY\".")
	case secret == "" || len(secret) > maxSecret || strings.ContainsFunc(secret, notVisible):
		return "", malformed("The API key in your request is malformed. Send it in the Authorization header, as \"Authorization: Bearer KEY\".")
	}
	return secret, nil
}

// secretIn is the secret that a header holds, if it is one of those that do.
func secretIn(h *corev3.HeaderValue) (string, bool) {
	value := envoy.HeaderValue(h)
	switch h.GetKey() {
	case "authorization":
		// The scheme is case-insensitive (RFC 9110, section 11.1).
		const bearer = "bearer"
		if len(value) >= len(bearer) && strings.EqualFold(value[:len(bearer)], bearer) &&
			(len(value) == len(bearer) || value[len(bearer)] == ' ') {
			value = value[len(bearer):]
		}
		return strings.Trim(value, " "), true
	case "x-api-key", "api-key":
		return strings.Trim(value, " "), true
	}
	return "", false
}

func notVisible(r rune) bool { return r <= ' ' || r >= 0x7f }

func malformed(message string) *openai.Error {
	return &openai.Error{Status: http.StatusUnauthorized, Type: openai.TypeInvalidRequest, Message: message}
}

// unknownKey is one answer for keys that are unknown, revoked, expired or
// disabled: only who holds a right secret may learn more than that it failed.
func unknownKey(secret string) *openai.Error {
	return &openai.Error{
		Status: http.StatusUnauthorized, Type: openai.TypeInvalidRequest, Code: openai.CodeInvalidKey,
		Message: "Incorrect API key provided: " + masked(secret) + ". Ask the operator of this gateway for a key.",
	}
}

// masked shows as much of a secret as its owner needs to recognise it.
func masked(secret string) string {
	const prefix, suffix, least = 3, 4, 16
	if len(secret) < least {
		return "…"
	}
	return secret[:prefix] + "…" + secret[len(secret)-suffix:]
}
