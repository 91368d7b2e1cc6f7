package h2loop

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Blocks of headers, in HPACK that leaves the table alone (RFC 7541, section 6.2.2).
var (
	answerHead = string(appendLiteral(appendLiteral(nil, ":status", "200"), "content-type", "application/grpc"))
	wellEnded  = string(appendLiteral(nil, "grpc-status", "0"))
)

// trailers are what an answer of gRPC ends with; the only headers of one that has not begun.
func trailers(s *status.Status, begun bool) string {
	var block []byte
	if !begun {
		block = append(block, answerHead...)
	}
	if s.Code() == codes.OK {
		return string(append(block, wellEnded...))
	}
	block = appendLiteral(block, "grpc-status", strconv.Itoa(int(s.Code())))
	return string(appendLiteral(block, "grpc-message", percent(s.Message())))
}

// percent encodes a text as grpc-message has it.
func percent(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '%' {
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// appendLiteral appends a header in full, which nobody is to remember.
func appendLiteral(b []byte, name, value string) []byte {
	b = append(b, 0)
	b = appendText(b, name)
	return appendText(b, value)
}

// appendText appends a string without Huffman coding (section 5.2); its length is an integer with a
// prefix of 7 bits (5.1).
func appendText(b []byte, s string) []byte {
	const most = 1<<7 - 1
	n := len(s)
	if n < most {
		return append(append(b, byte(n)), s...)
	}
	b = append(b, most)
	for n -= most; n >= 1<<7; n >>= 7 {
		b = append(b, byte(n)|1<<7)
	}
	return append(append(b, byte(n)), s...)
}

// appendHeaders appends frames with a whole block of headers; as a rule it is one.
func appendHeaders(b []byte, stream uint32, flags http2.Flags, block string) []byte {
	kind := http2.FrameHeaders
	for ; len(block) > maxFrame; block = block[maxFrame:] {
		b = append(appendFrame(b, maxFrame, kind, flags, stream), block[:maxFrame]...)
		kind, flags = http2.FrameContinuation, 0
	}
	b = appendFrame(b, len(block), kind, flags|http2.FlagHeadersEndHeaders, stream)
	return append(b, block...)
}

// appendFrame appends the head of a frame (RFC 9113, section 4.1).
func appendFrame(b []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, stream)
}
