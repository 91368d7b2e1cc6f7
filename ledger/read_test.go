package ledger

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	const good = `{"time":"2026-11-24T09:00:00Z","request_id":"`
	text := good + "a\"}\n\n" + `{"time":` + "\n" + strings.Repeat("x", maxLine+9) + "\n" + good + "b\"}\r\n[]\n" + good + `c"}`
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text))} {
		var ids, told []string
		err := Read(r, "f", func(r *Record) error {
			ids = append(ids, r.RequestID)
			return nil
		}, func(b *BrokenLine) { told = append(told, b.Error()) })
		if err != nil {
			t.Fatal(err)
		}
		// The last line has no end yet.
		if diff := cmp.Diff([]string{"a", "b"}, ids); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", name, diff)
		}
		want := []string{"f:3: the line is cut off", "f:4: this is no line of a usage ledger; it was left out: it is longer than 65536 bytes", "f:6: this is no line"}
		if len(told) != len(want) {
			t.Fatalf("%s: told %q, want %q", name, told, want)
		}
		for i := range want {
			if !strings.HasPrefix(told[i], want[i]) {
				t.Errorf("%s: told %q, want %q", name, told[i], want[i])
			}
		}
	}
}

func TestReadStops(t *testing.T) {
	stop := errors.New("stop")
	err := Read(strings.NewReader(`{"time":"2026-11-24T09:00:00Z"}`+"\n"), "f", func(*Record) error { return stop }, nil)
	if !errors.Is(err, stop) {
		t.Errorf("error %v, want that of each", err)
	}
	bad := errors.New("bad disk")
	if err := Read(iotest.ErrReader(bad), "f", nil, nil); !errors.Is(err, bad) {
		t.Errorf("error %v, want that of the reader", err)
	}
}
