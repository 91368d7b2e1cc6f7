package simulator

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseScript(t *testing.T) {
	tests := map[string]Script{
		"":                            {},
		" , ":                         {},
		"tokens=128":                  {Tokens: 128},
		"tokens=0":                    {Tokens: NoTokens},
		" pace = 10ms , ttft = 1.5s ": {Pace: 10 * time.Millisecond, TTFT: 1500 * time.Millisecond},
		"pace=0":                      {},
		"per=4,pad=9,gzip=yes":        {Per: 4, Pad: 9, Gzip: true},
		"text=echo,usage=zeros":       {Text: TextEcho, Usage: UsageZeros},
		"done=no":                     {NoDone: true},
		"done=yes,gzip=no":            {},
		"fail=status:503":             {Fail: Failure{Kind: FailStatus, Status: 503}},
		"retry_after=7,fail=reset:5":  {RetryAfter: 7, Fail: Failure{Kind: FailReset, After: 5}},
		"fail=hang":                   {Fail: Failure{Kind: FailHang}},
		"fail=drop":                   {Fail: Failure{Kind: FailDrop}},
		"fail=type":                   {Fail: Failure{Kind: FailType}},
		"fail=none":                   {},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := ParseScript(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseScriptRefuses(t *testing.T) {
	tests := map[string]string{
		"tokens":           `script: member "tokens" has no value, want name=value`,
		"tokens=x":         `script: tokens="x" is not an integer from 0 to 10000000`,
		"tokens=-1":        `script: tokens="-1" is not an integer from 0 to 10000000`,
		"per=0":            `script: per="0" is not an integer from 1 to 10000000`,
		"pace=10":          `script: pace="10" is not a duration from 0 to 1h, such as 20ms or 1.5s`,
		"ttft=-1s":         `script: ttft="-1s" is not a duration from 0 to 1h, such as 20ms or 1.5s`,
		"text=prose":       `script: text="prose" is not one of lorem, answer, echo`,
		"usage=":           `script: usage="" is not one of final, never, chunks, finish, zeros`,
		"done=false":       `script: done="false" is not one of yes, no`,
		"pad=99999999":     `script: pad="99999999" is not an integer from 0 to 16777216`,
		"fail=boom":        `script: fail="boom" is not one of none, status:CODE, drop, reset:N, close:N, end:N, garbage:N, hang:N, error:N, type`,
		"fail=status":      `script: fail=status="" is not an integer from 400 to 599`,
		"fail=status:200":  `script: fail=status="200" is not an integer from 400 to 599`,
		"fail=reset:":      `script: fail=reset="" is not an integer from 0 to 2147483647`,
		"fail=type:3":      `script: fail="type:3" has a number, but type takes none`,
		"speed=3":          `script: unknown member "speed", want one of tokens, pace, ttft, per, text, usage, done, fail, retry_after, pad, gzip`,
		"tokens=1,tokens=": `script: tokens is given twice`,
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			_, err := ParseScript(text)
			if err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

func TestOverrideKeepsWhatIsNotGiven(t *testing.T) {
	model := parse(t, "tokens=40,pace=20ms,fail=reset:2,gzip=yes")
	got, err := model.Override("tokens=3,fail=none")
	if err != nil {
		t.Fatal(err)
	}
	want := Script{Tokens: 3, Pace: 20 * time.Millisecond, Gzip: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseModel(t *testing.T) {
	tests := map[string]Model{
		"demo":                           {Name: "demo"},
		"org/demo:1=text=answer":         {Name: "org/demo:1", Script: Script{Text: TextAnswer}},
		"demo=tokens=40, context = 2048": {Name: "demo", Context: 2048, Script: Script{Tokens: 40}},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := ParseModel(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseModelRefuses(t *testing.T) {
	tests := map[string]string{
		"=tokens=3":      "model has no name, want NAME or NAME=SCRIPT",
		"demo=per=0":     `model "demo": script: per="0" is not an integer from 1 to 10000000`,
		"demo=context=0": `model "demo": script: context="0" is not an integer from 1 to 2147483647`,
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			_, err := ParseModel(text)
			if err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// A script comes in a header that anybody may send.
func FuzzParseScript(f *testing.F) {
	f.Add("tokens=128,pace=10ms,ttft=50ms,fail=reset:5")
	f.Add("fail=status:503,retry_after=1,text=echo,,=")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScript(text)
		if err == nil && (s.Per < 0 || s.Pad < 0 || s.Pad > maxPad || s.Pace < 0 || s.Fail.After < 0) {
			t.Errorf("%q gives %+v", text, s)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "script: ") {
			t.Errorf("error %q does not say that it is about a script", err)
		}
	})
}
