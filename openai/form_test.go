package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
)

const formType = "multipart/form-data; boundary=B-1"

// formOf is a form of parts, each "headers", "content".
func formOf(parts ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(parts); i += 2 {
		b.WriteString("--B-1\r\n" + parts[i] + "\r\n\r\n" + parts[i+1] + "\r\n")
	}
	return b.String() + "--B-1--\r\n"
}

func fieldPart(name string) string { return `Content-Disposition: form-data; name="` + name + `"` }

const filePart = "Content-Disposition: form-data; name=\"file\"; filename=\"a \\ b.wav\"\r\nContent-Type: audio/wav"

func TestParseForm(t *testing.T) {
	audio := "RIFF\x00\xff\r\n--B\r\n\n--b-1\r\n"
	tests := []struct {
		name, contentType, body string
		want                    Request
	}{
		{"a file", formType, formOf(filePart, audio), Request{}},
		{"model and stream", formType, formOf(fieldPart("model"), "whisper", filePart, audio, fieldPart("stream"), "true"), Request{Model: "whisper", Stream: true}},
		{"no stream, no line end after the last boundary", formType, strings.TrimSuffix(formOf(filePart, audio, fieldPart("stream"), "false"), "\r\n"), Request{}},
		{"an empty file", formType, formOf(filePart, ""), Request{}},
		{"other fields twice", formType, formOf(fieldPart("timestamp_granularities[]"), "word", fieldPart("timestamp_granularities[]"), "segment", filePart, ""), Request{}},
		{"headers in other cases", "Multipart/Form-Data; charset=UTF-8; Boundary=\"B-1\"", formOf("content-disposition:FORM-DATA ; NAME=model", "m", filePart, ""), Request{Model: "m"}},
		{"a field with a type", formType, formOf("Content-Type: text/plain; charset=utf-8\r\n"+fieldPart("model"), "é😀", filePart, ""), Request{Model: "é😀"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseForm(Transcriptions, tt.contentType, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got.Model != tt.want.Model || got.Stream != tt.want.Stream || got.N != 1 || got.Endpoint != Transcriptions {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if inputs, parts, ids := got.PromptText([]byte(tt.body), func([]byte) { t.Error("a form has no text") }); inputs+parts+ids != 0 {
				t.Errorf("a form has a prompt of %d %d %d", inputs, parts, ids)
			}
		})
	}
}

func TestParseFormRefuses(t *testing.T) {
	good := formOf(fieldPart("model"), "m", filePart, "x")
	many := formOf(filePart, "x")
	for i := range maxFormParts {
		many = formOf(fieldPart(fmt.Sprint("f", i)), "") + many
		many = strings.Replace(many, "--B-1--\r\n", "", 1)
	}
	tests := []struct{ name, contentType, body, param, message string }{
		{"no type", "", good, "", "This URL takes forms."},
		{"JSON", "application/json", `{"model":"m"}`, "", "This URL takes forms."},
		{"another kind of form", "application/x-www-form-urlencoded", "model=m", "", "This URL takes forms."},
		{"no boundary", "multipart/form-data", good, "", "The boundary of the form is malformed."},
		{"long boundary", "multipart/form-data; boundary=" + strings.Repeat("x", 71), good, "", "The boundary of the form is malformed."},
		{"boundary with a space", `multipart/form-data; boundary="B 1"`, good, "", "The boundary of the form is malformed."},
		{"boundary twice", formType + "; boundary=B-2", good, "", "This URL takes forms."},
		{"boundary continued", "multipart/form-data; boundary*0=B-; boundary*1=1", good, "", "The Content-Type of the form is malformed."},
		{"two types", formType + ", application/json", good, "", "The Content-Type of the form is malformed."},
		{"another parameter", formType + "; x=y", good, "", "The Content-Type of the form is malformed."},
		{"another character set", formType + "; charset=utf-16", good, "", "The Content-Type of the form is malformed."},
		{"empty", formType, "", "", "The form does not begin with its boundary, at byte 0."},
		{"text before", formType, "x\r\n" + good, "", "The form does not begin with its boundary, at byte 0."},
		{"text after", formType, good + "x", "", "There is more text after the form's end"},
		{"another form after it", formType, good + good, "", "There is more text after the form's end"},
		{"cut off", formType, good[:len(good)-4] + "x", "", "The boundary at byte"},
		{"cut off in a part", formType, good[:len(good)-12], "", "The form ends inside the part that begins at byte"},
		{"cut off in headers", formType, good[:30], "", "The headers of the part at byte 7 do not end"},
		{"a longer boundary", formType, formOf(filePart, "a\r\n--B-12\r\n"), "", "The boundary at byte"},
		{"a boundary with space after it", formType, formOf(filePart, "a\r\n--B-1 \r\n"), "", "The boundary at byte"},
		{"a boundary inside a line", formType, formOf(filePart, "a--B-1\r\n"), "", "The form's boundary stands inside a part"},
		{"a boundary after a bare line feed", formType, formOf(filePart, "a\n--B-1\r\n"+fieldPart("model")+"\r\n\r\nb"), "", "The form's boundary stands inside a part"},
		{"bare line feeds", formType, strings.ReplaceAll(good, "\r\n", "\n"), "", "The boundary at byte 0"},
		{"too many parts", formType, many, "", "The form has more than 64 parts"},
		{"long headers", formType, formOf(filePart+"\r\nX: "+strings.Repeat("x", maxPartHeader), ""), "", "The headers of the part at byte 7 do not end"},
		{"a folded header", formType, formOf("Content-Disposition: form-data;\r\n name=\"model\"", "m", filePart, ""), "", "The Content-Disposition of the part at byte 7"},
		{"a header without a colon", formType, formOf("x", ""), "", "A header of the part at byte 7 is malformed."},
		{"a header with a line feed", formType, formOf("X: a\nContent-Disposition: form-data; name=\"model\"", "m"), "", "A header of the part at byte 7 is malformed."},
		{"no disposition", formType, formOf("X: y", ""), "", "The part at byte 7 has no name."},
		{"two dispositions", formType, formOf(fieldPart("x")+"\r\n"+fieldPart("model"), ""), "", "The part at byte 7 has two Content-Dispositions."},
		{"an attachment", formType, formOf("Content-Disposition: attachment; name=\"model\"", "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"a name twice", formType, formOf(fieldPart("x")+"; name=\"model\"", "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"an escaped quote", formType, formOf(`Content-Disposition: form-data; name="x"; filename="a\"; name="model"`, "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"an escaped name", formType, formOf(`Content-Disposition: form-data; name="m\odel"`, "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"a name in percents", formType, formOf(fieldPart("mod%65l"), "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"an extended name", formType, formOf("Content-Disposition: form-data; name*=utf-8''model", "m"), "", "The Content-Disposition of the part at byte 7 is malformed."},
		{"an encoded part", formType, formOf("Content-Transfer-Encoding: base64\r\n"+fieldPart("model"), "bQ=="), "", "The part at byte 7 has a Content-Transfer-Encoding."},
		{"two models", formType, formOf(fieldPart("model"), "a", fieldPart("model"), "b", filePart, ""), "model", "Duplicate part 'model' at byte 65. Send it once."},
		{"two files", formType, formOf(filePart, "", filePart, ""), "file", "Duplicate part 'file'"},
		{"a model in upper case", formType, formOf(fieldPart("Model"), "a", filePart, ""), "model", "The name of the part at byte 7 is not written as 'model'."},
		{"a model that is a file", formType, formOf(fieldPart("model")+`; filename="x"`, "a", filePart, ""), "model", "The part 'model' at byte 7 must be plain text"},
		{"a model in another character set", formType, formOf("Content-Type: text/plain; charset=utf-16\r\n"+fieldPart("model"), "a", filePart, ""), "model", "The part 'model' at byte 7 must be plain text"},
		{"a model in JSON", formType, formOf("Content-Type: application/json\r\n"+fieldPart("model"), "a", filePart, ""), "model", "The part 'model' at byte 7 must be plain text"},
		{"an empty model", formType, formOf(fieldPart("model"), "", filePart, ""), "model", "Invalid value for 'model' in the part at byte 7"},
		{"a model in two lines", formType, formOf(fieldPart("model"), "a\r\nb", filePart, ""), "model", "Invalid value for 'model' in the part at byte 7"},
		{"a model that is not UTF-8", formType, formOf(fieldPart("model"), "a\xff", filePart, ""), "model", "Invalid value for 'model' in the part at byte 7"},
		{"stream is a number", formType, formOf(fieldPart("stream"), "1", filePart, ""), "stream", "Invalid value for 'stream' in the part at byte 7: expected true or false."},
		{"a model with an extended filename", formType, formOf("Content-Disposition: form-data; name=model; filename*=x", "m", filePart, ""), "model", "The part 'model' at byte 7 must be plain text"},
		{"no file", formType, formOf(fieldPart("model"), "m"), "file", "Missing required part: 'file'."},
		{"a file without a name", formType, formOf(fieldPart("file"), "x"), "file", "The part 'file' at byte 7 has no filename."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseForm(Transcriptions, tt.contentType, []byte(tt.body))
			if err == nil || err.Status != 400 || err.Type != TypeInvalidRequest || err.Param != tt.param || !strings.HasPrefix(err.Message, tt.message) {
				t.Errorf("got %+v, want param %q and %q", err, tt.param, tt.message)
			}
		})
	}
}

func TestApplyForm(t *testing.T) {
	audio := strings.Repeat("\x00\r\n--\xff", 99)
	body := formOf(fieldPart("language"), "de", fieldPart("model"), "alias", filePart, audio)
	r, err := ParseForm(Translations, formType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]string{
		"": body, "alias": body, "served/😀": strings.Replace(body, "\r\n\r\nalias\r\n", "\r\n\r\nserved/😀\r\n", 1),
	} {
		if got := string(r.Apply([]byte(body), Edit{Model: model, MaxTokens: 5, IncludeUsage: true})); got != want {
			t.Errorf("model %q: %q", model, got)
		}
	}
	body = formOf(filePart, audio)
	if r, err = ParseForm(Translations, formType, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.Apply([]byte(body), Edit{Model: "m"})), formOf(fieldPart("model"), "m", filePart, audio); got != want {
		t.Errorf("without a model: got %q, want %q", got, want)
	}
}

// FuzzParseForm compares what is accepted with what mime/multipart reads, before and
// after the model was changed.
func FuzzParseForm(f *testing.F) {
	for _, body := range []string{
		formOf(fieldPart("model"), "m", filePart, "x"), formOf(filePart, "\r\n-"), formOf(filePart, "--B-1"), "--B-1--", "",
		formOf(filePart, "", "content-disposition: form-data; name=stream", "true"), formOf(`Content-Disposition: form-data; name="a"; filename="\""`, ""),
	} {
		f.Add([]byte(body), formType, "n")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType, model string) {
		r, refusal := ParseForm(Transcriptions, contentType, body)
		if refusal != nil {
			if refusal.Status != 400 || refusal.Message == "" {
				t.Fatalf("refused with %s", refusal.Body())
			}
			return
		}
		before := decodedForm(t, contentType, body)
		if before["model"] != r.Model || before["stream"] == "true" != r.Stream {
			t.Fatalf("%q: got %+v, want %v", body, r, before)
		}
		if !visible([]byte(model)) || strings.Contains(model, "--") {
			return
		}
		after := decodedForm(t, contentType, r.Apply(body, Edit{Model: model}))
		if after["model"] != model {
			t.Fatalf("%q: the model became %q, want %q", body, after["model"], model)
		}
		before["model"] = model
		for name, text := range before {
			if after[name] != text {
				t.Fatalf("%q: part %q became %q", body, name, after[name])
			}
		}
		if again, err := ParseForm(Transcriptions, contentType, r.Apply(body, Edit{Model: model})); err != nil || again.Model != model {
			t.Fatalf("%q: a changed form is refused: %v", body, err)
		}
	})
}

// decodedForm is what mime/multipart reads of a form: the last content of each name.
func decodedForm(t *testing.T, contentType string, body []byte) map[string]string {
	t.Helper()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for r := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		parts[p.FormName()] = string(text)
	}
}
