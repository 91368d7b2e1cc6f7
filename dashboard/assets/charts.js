// The charts of the first page. They are drawn from /dashboard/series, which has the last
// quarter of an hour.
"use strict";
(() => {
  const every = 5000;
  const height = 180;
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const number = (u, v) => (v == null ? "–" : compact.format(v));
  const seconds = (u, v) => (v == null ? "–" : v < 1 ? `${compact.format(v * 1000)} ms` : `${compact.format(v)} s`);
  const kinds = {
    requests: { lines: [["answered", "Answered", "--line-1"], ["refused", "Refused", "--line-2"], ["failed", "Failed", "--line-3"]], value: number },
    tokens: { lines: [["input", "In", "--line-1"], ["output", "Out", "--line-4"]], value: number },
    first: { lines: [["p50", "p50", "--line-1"], ["p95", "p95", "--line-4"]], value: seconds },
    live: { lines: [["live", "In flight", "--line-1"]], value: number },
  };
  const places = [...document.querySelectorAll("[data-chart]")].map((element) => ({ element, kind: kinds[element.dataset.chart], chart: null }));
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let data = null;

  const axis = (more) => ({ stroke: color("--muted"), grid: { stroke: color("--border"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", ...more });
  const values = (kind) => [data.time, ...kind.lines.map(([name]) => data[name] ?? data.time.map(() => null))];

  // All charts show the same time, whatever there is to show of it.
  const span = () => {
    const last = data.time.at(-1) ?? Date.now() / 1000;
    return [last - 15 * 60, last];
  };

  // Where the pointer is not on a chart its legend tells the newest values.
  const tellNewest = ({ chart }) => {
    if (!(chart.cursor.left >= 0)) chart.setLegend({ idx: data.time.length - 1 });
  };

  const draw = (place) => {
    place.chart?.destroy();
    const { element, kind } = place;
    place.chart = new uPlot({
      width: element.clientWidth,
      height,
      padding: [8, 18, 0, 0],
      hooks: { ready: [(chart) => tellNewest({ chart })] },
      cursor: { drag: { x: false, y: false } },
      scales: { x: { range: () => span() }, y: { range: (u, low, high) => [0, Math.max(high * 1.1, kind.value === seconds ? 0.01 : 1)] } },
      axes: [
        axis({ values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })), space: 70, size: 28 }),
        axis({ values: (u, ticks) => ticks.map((t) => kind.value(u, t)), size: 56 }),
      ],
      series: [
        { label: "Time", value: (u, v) => (v == null ? "–" : new Date(v * 1000).toLocaleTimeString([], { hour12: false })) },
        ...kind.lines.map(([, label, hue]) => ({ label, stroke: color(hue), width: 1.75, value: kind.value, points: { show: data.time.length < 3 } })),
      ],
    }, values(kind), element);
  };

  const update = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/dashboard/series", { cache: "no-store" });
      if (!answer.ok) return;
      const first = data === null || data.time.length < 3;
      data = await answer.json();
      for (const place of places) {
        if (first || !place.chart) {
          draw(place);
          continue;
        }
        place.chart.setData(values(place.kind));
        tellNewest(place);
      }
    } catch {
      // The page says when weir does not answer.
    }
  };

  for (const place of places) place.element.addEventListener("mouseleave", () => place.chart && tellNewest(place));
  const redraw = () => { if (data) places.forEach(draw); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    for (const { element, chart } of places) {
      if (chart && chart.width !== element.clientWidth) chart.setSize({ width: element.clientWidth, height });
    }
  }).observe(document.getElementById("main"));
  document.addEventListener("visibilitychange", update);
  update();
  setInterval(update, every);
})();
