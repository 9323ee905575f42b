"use strict";
// Draws the charts of the report with uPlot from the JSON beside it; draws again when resized.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue("--" + name).trim();
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const sum = (rows) => rows[0].map((_, i) => rows.reduce((s, row) => s + (row[i] || 0), 0));
  const played = (kind) => kind === "burst" ? data.bursts : data.acts;
  const highest = (kind) => Math.max(...played(kind).flatMap((act) => peak(act, kind)));
  const peak = (act, kind) => ({
    sessions: () => [act.sessions.max_connections * 1.1],
    requests: () => sum([act.responses.answered, act.responses.failed]),
    burst: () => act.responses.p95_ms.filter((v) => v !== null).concat([1000]),
    times: () => act.responses.p95_ms.filter((v) => v !== null).concat([10]),
  })[kind]();

  const series = (label, stroke, extra) => Object.assign({ label, stroke, width: 2, points: { show: false } }, extra);
  const area = (name) => ({ fill: colour(name) + "66" });

  const draw = {
    sessions(act) {
      const s = act.sessions;
      // Stacked: each line is drawn on top of the ones below it.
      const held = s.idle_in_transaction.map((v) => v || 0);
      return {
        data: [s.t, sum([held, s.active, s.idle]), sum([held, s.active]), held, s.t.map(() => s.max_connections)],
        series: [
          series("idle", colour("idle"), area("idle")),
          series("active", colour("active"), area("active")),
          series("idle in transaction", colour("bad"), area("bad")),
          series("max_connections", colour("ink"), { dash: [6, 4], width: 1 }),
        ],
        unit: "sessions",
      };
    },
    requests(act) {
      const r = act.responses;
      return {
        data: [r.t, sum([r.answered, r.failed]), r.failed],
        series: [series("all", colour("good"), area("good")), series("failed", colour("bad"), area("bad"))],
        unit: "requests/s",
      };
    },
    times(act) {
      const r = act.responses;
      return {
        data: [r.t, r.p95_ms, r.p50_ms],
        series: [series("p95", colour("warn")), series("median", colour("good"))],
        unit: "ms", log: true,
      };
    },
  };

  draw.burst = draw.times;

  function chart(box) {
    const kind = box.dataset.kind;
    const { data: values, series: lines, unit, log } = draw[kind](played(kind)[box.dataset.act]);
    const top = highest(kind);
    box.textContent = "";
    new uPlot({
      width: box.clientWidth, height: 220,
      scales: { x: { time: false }, y: log ? { distr: 3, range: [1, Math.max(10, top * 1.2)] } : { range: [0, top * 1.05] } },
      axes: [Object.assign({ label: "seconds" , labelSize: 18, size: 34 }, axis), Object.assign({ label: unit, labelSize: 18, size: 54 }, axis)],
      legend: { live: false },
      series: [{ label: "s" }].concat(lines),
    }, values, box);
  }

  let last = 0;
  function drawAll() {
    if (document.body.clientWidth === last) return;
    last = document.body.clientWidth;
    document.querySelectorAll(".chart").forEach(chart);
  }
  drawAll();
  addEventListener("resize", drawAll);
})();
