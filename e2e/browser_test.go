package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a tab of a real browser. Whatever its pages complain of, or load from
// elsewhere, fails the test.
type browser struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // it is the tab
	base string

	mu      sync.Mutex // guards trouble
	trouble []string
}

// chromium is the path of a browser. Without one the test is skipped, but not in CI.
func chromium(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("no Chromium: make chromium installs it")
	}
	t.Skip("SKIPPED: no Chromium: set CHROMIUM to its path, or put it on PATH")
	return ""
}

// browse opens a browser for the length of a test.
func browse(t *testing.T, base string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.WindowSize(1280, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	alloc, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, closeTab := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		closeTab()
		cancel()
	})
	b := &browser{t: t, ctx: ctx, base: base}
	// The first call starts the browser, which ends with the call's context.
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	return b
}

// listen notes what should not be.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args)
			b.trouble = append(b.trouble, "console: "+string(text))
		}
	case *runtime.EventExceptionThrown:
		b.trouble = append(b.trouble, "exception: "+e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.trouble = append(b.trouble, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.base) && !strings.HasPrefix(e.Request.URL, "data:") { // which is in the page
			b.trouble = append(b.trouble, "a request to "+e.Request.URL)
		}
	}
}

// troubles are those since the last call.
func (b *browser) troubles() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.trouble
	b.trouble = nil
	return list
}

// clean fails the test where there were troubles.
func (b *browser) clean(where string) {
	b.t.Helper()
	for _, trouble := range b.troubles() {
		b.t.Errorf("%s: %s", where, trouble)
	}
}

// perform runs an action, which has some time.
func perform[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("the browser: %v; it shows: %s", err, b.text())
	}
	return value
}

// call sends a command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	perform(b, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

// click clicks on an element, once it is there.
func (b *browser) click(css string) {
	b.t.Helper()
	perform(b, chromedp.Click(chromedp.CSS(css)))
}

// fill writes into a field, or chooses of a list.
func (b *browser) fill(css, value string) {
	b.t.Helper()
	b.waits(css)
	text, err := json.Marshal([]string{css, value})
	if err != nil {
		b.t.Fatal(err)
	}
	eval[bool](b, `((css, value) => { document.querySelector(css).value = value; return true; })(...`+string(text)+`)`)
}

// waits until an element can be seen.
func (b *browser) waits(css string) {
	b.t.Helper()
	perform(b, chromedp.WaitVisible(chromedp.CSS(css)))
}

// open goes to a page.
func (b *browser) open(path string) {
	b.t.Helper()
	perform(b, chromedp.Navigate(b.base+path))
}

// text is what the page says now.
func (b *browser) text() (text string) {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, _ = chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`)) // it may be between two pages
	return text
}

// shows waits until the page says something.
func (b *browser) shows(what ...string) {
	b.t.Helper()
	for _, w := range what {
		text := ""
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if text = b.text(); strings.Contains(text, w) {
				break
			}
			if time.Now().After(deadline) {
				b.t.Fatalf("the page does not say %q: %s", w, text)
			}
		}
	}
}

// eval is what an expression is in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return perform(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// size is that of a screen, in CSS pixels.
type size struct{ width, height int64 }

var (
	desk  = size{1280, 900}
	phone = size{390, 844}
)

// look shows the page on a screen of that size, in a scheme: light or dark.
func (b *browser) look(s size, scheme string) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: 1})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// shoot keeps a picture of the page in the folder that WEIR_SHOTS names, if it does.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("WEIR_SHOTS")
	if dir == "" {
		return
	}
	const quality = 100 // PNG
	picture := perform(b, chromedp.FullScreenshot(quality))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// audit is a script that answers what is wrong with a page for those who see or reach
// less: text with a contrast below 4.5 to 1 (WCAG 2.2, 1.4.3), fields without a label,
// controls without a name, ids that are there twice, and what is wider than the screen.
const audit = `(async () => {
  const wrong = [];
  const frame = () => new Promise(requestAnimationFrame); // charts follow the screen's size
  await frame(), await frame(), await frame();
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] === 255) return c;
    }
    return [255, 255, 255, 255];
  };
  let texts = 0;
  for (const e of document.body.querySelectorAll("*")) {
    if (!e.checkVisibility({ visibilityProperty: true }) || e.closest("svg, .hidden, .skip, noscript")) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = light(rgba(getComputedStyle(e).color)), b = light(behind(e));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts++;
    if (contrast < 4.5) wrong.push("contrast " + contrast.toFixed(2) + ": " + e.outerHTML.slice(0, 100));
  }
  if (texts < 5) wrong.push("only " + texts + " texts");
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!e.labels.length) wrong.push("no label: " + e.outerHTML);
  for (const e of document.querySelectorAll("a, button, summary"))
    if (!(e.getAttribute("aria-label") || e.textContent).trim()) wrong.push("no name: " + e.outerHTML);
  for (const e of document.querySelectorAll("[id]"))
    if (document.querySelectorAll("#" + CSS.escape(e.id)).length > 1) wrong.push("twice: " + e.id);
  if (document.querySelectorAll("h1").length !== 1) wrong.push(document.querySelectorAll("h1").length + " h1");
  if (document.querySelector("[style]:not(.uplot *)")) wrong.push("inline style: " + document.querySelector("[style]:not(.uplot *)").outerHTML.slice(0, 100));
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    const wide = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > page.clientWidth + 1 && !e.closest("pre"));
    wrong.push("wider than the screen: " + page.scrollWidth + " " + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 100)).join(" | "));
  }
  for (const card of document.querySelectorAll(".card"))
    for (const e of card.querySelectorAll("*"))
      if (e.checkVisibility() && !e.closest("pre, svg, .hidden, thead") && e.getBoundingClientRect().right > card.getBoundingClientRect().right)
        wrong.push("sticks out of its card: " + e.outerHTML.slice(0, 100));
  return wrong;
})()`

// inspect looks at the page on all screens in both schemes.
func (b *browser) inspect(name string) {
	b.t.Helper()
	for screen, s := range map[string]size{"desk": desk, "phone": phone} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(s, scheme)
			for _, wrong := range eval[[]string](b, audit) {
				b.t.Errorf("%s on a %s, %s: %s", name, screen, scheme, wrong)
			}
			b.shoot(strings.Join([]string{name, screen, scheme}, "-"))
		}
	}
	b.look(desk, "light")
	b.clean(name)
}
