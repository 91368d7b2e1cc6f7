package simulator

import (
	"fmt"
	"math"
	"strings"
)

// Failure is a scripted failure. The zero value is none.
type Failure struct {
	Kind   FailureKind
	After  int64 // chunks sent before it
	Status int   // HTTP status, for FailStatus only: 400 to 599
}

// FailureKind is a way to fail. The package comment tells what each does.
type FailureKind string

// The failure kinds.
const (
	FailNone    FailureKind = ""
	FailStatus  FailureKind = "status"
	FailDrop    FailureKind = "drop"
	FailReset   FailureKind = "reset"
	FailClose   FailureKind = "close"
	FailEnd     FailureKind = "end"
	FailGarbage FailureKind = "garbage"
	FailHang    FailureKind = "hang"
	FailError   FailureKind = "error"
	FailType    FailureKind = "type"
)

const failureForms = "none, status:CODE, drop, reset:N, close:N, end:N, garbage:N, hang:N, error:N, type"

// parseFailure reads KIND[:N].
func parseFailure(value string) (Failure, error) {
	kind, arg, hasArg := strings.Cut(value, ":")
	f := Failure{Kind: FailureKind(kind)}
	var err error
	switch f.Kind {
	case "none":
		f.Kind = FailNone
		fallthrough
	case FailDrop, FailType:
		if hasArg {
			err = fmt.Errorf("fail=%q has a number, but %s takes none", value, kind)
		}
	case FailStatus:
		var n int64
		n, err = parseCount("fail=status", arg, 400, 599)
		f.Status = int(n)
	case FailReset, FailClose, FailEnd, FailGarbage, FailHang, FailError:
		if hasArg {
			f.After, err = parseCount("fail="+kind, arg, 0, math.MaxInt32)
		}
	default:
		err = fmt.Errorf("fail=%q is not one of %s", value, failureForms)
	}
	if err != nil {
		return Failure{}, err
	}
	return f, nil
}

// early reports whether f comes before any header.
func (f Failure) early() bool {
	switch f.Kind {
	case FailStatus, FailDrop:
		return true
	case FailReset, FailHang:
		return f.After == 0
	default:
		return false
	}
}
