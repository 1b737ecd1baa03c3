// The two interactive charts: what every step takes out, and what moving a threshold does.
const WIDE = 640;
let unit = "clips";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const many = (count) => `${count.toLocaleString("en")} ${count === 1 ? "clip" : "clips"}`;

function hours(seconds) {
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (size < 60) return `${sign}${size.toFixed(1)} s`;
  if (size < 3600) return `${sign}${Math.floor(size / 60)} min ${String(Math.floor(size % 60)).padStart(2, "0")} s`;
  return `${sign}${(size / 3600).toLocaleString("en", { maximumFractionDigits: 1 })} h`;
}

function base(height, extra) {
  const axis = { gridcolor: colour("line-soft"), linecolor: colour("line"), zerolinecolor: colour("line"), fixedrange: true };
  return Object.assign({
    height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, barmode: "stack",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("soft") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    margin: { l: 8, r: 12, t: 8, b: 36 }, xaxis: Object.assign({}, axis), yaxis: Object.assign({}, axis), yaxis2: Object.assign({}, axis),
  }, extra(axis));
}

// Plotly reads a little markup in its labels: names from outside lose theirs.
const plain = (text) => text.replaceAll("<", "‹").replaceAll(">", "›");

function drawWaterfall() {
  const place = document.getElementById("waterfall");
  if (!place) return;
  const inHours = unit === "hours";
  const value = (pair) => (inHours ? pair[1] / 3600 : pair[0]);
  const { all, steps, failed, unjudged, kept } = data.funnel;
  const rows = [["All clips", 0, all, "unjudged", ""]];
  let left = [...all];
  const take = (label, pair, tone, note) => {
    if (!pair[0]) return;
    left = [left[0] - pair[0], Math.max(0, left[1] - pair[1])];
    rows.push([label, value(left), pair, tone, note]);
  };
  for (const [label, count, seconds, alone] of steps) take(label, [count, seconds], "rejected", `, ${many(alone)} by this alone`);
  take("failed (errors)", failed, "failed", "");
  take("not judged", unjudged, "unjudged", "");
  rows.push(["Kept", 0, kept, "kept", ""]);
  const narrow = place.clientWidth < WIDE;
  const width = narrow ? 20 : 44;
  const labels = rows.map((row) => plain(row[0].length > width ? row[0].slice(0, width - 1) + "…" : row[0]));
  const trace = {
    type: "bar", orientation: "h", y: rows.map((row, i) => i), x: rows.map((row) => value(row[2])), base: rows.map((row) => row[1]),
    marker: { color: rows.map((row) => colour(row[3])) }, text: rows.map((row) => (inHours ? hours(row[2][1]) : row[2][0].toLocaleString("en"))),
    textposition: "outside", cliponaxis: false, hovertext: rows.map((row) => plain(`${row[0]}: ${many(row[2][0])}, ${hours(row[2][1])}${row[4]}`)), hoverinfo: "text",
  };
  const layout = base(54 + 27 * rows.length, (axis) => ({
    yaxis: Object.assign({}, axis, { tickvals: rows.map((row, i) => i), ticktext: labels, autorange: "reversed", automargin: true, showgrid: false }),
    xaxis: Object.assign({}, axis, { title: { text: inHours ? "hours in clips" : "clips" }, range: [0, value(all) * (narrow ? 1.2 : 1.1) || 1], nticks: narrow ? 4 : 8 }),
  }));
  draw(place, [trace], layout);
}

// Its own height keeps what follows in its place, on paper too.
function draw(place, traces, layout) {
  place.style.height = `${layout.height}px`;
  Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true });
}

function standing(curve) { return curve.places.indexOf(curve.value); }

function current() { return data.curves[Number(document.getElementById("pick").value)]; }

function drawExplorer() {
  const place = document.getElementById("explore");
  if (!place || !data.curves.length) return;
  const curve = current();
  const at = Number(document.getElementById("slide").value);
  const step = curve.edges.length > 1 ? curve.edges[1] - curve.edges[0] : 1;
  // The first and the last bin are open: they hold everything beyond.
  const middles = [...curve.edges.map((edge) => edge - step / 2), curve.edges[curve.edges.length - 1] + step / 2];
  const names = { kept: "kept", alone: "fail this rule alone", other: "fail something else too" };
  const tones = { kept: "kept", alone: "rejected", other: "unjudged" };
  const traces = Object.keys(names).map((group) => ({
    type: "bar", x: middles, y: curve.bars[group], width: step * 0.92, marker: { color: colour(tones[group]) }, yaxis: "y2",
    hovertemplate: `%{y:,} ${names[group]}<extra></extra>`,
  }));
  traces.push({ type: "scatter", mode: "lines", x: curve.places, y: curve.kept, line: { color: colour("kept"), width: 2, shape: "linear" },
    hovertemplate: "at %{x:.4~g}: %{y:,} clips kept<extra></extra>" });
  traces.push({ type: "scatter", mode: "markers", x: [curve.places[at]], y: [curve.kept[at]], marker: { color: colour("ink"), size: 9 }, hoverinfo: "skip" });
  const line = (x, tone, dash) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: colour(tone), width: 1.5, dash } });
  const moved = at !== standing(curve);
  const layout = base(place.clientWidth < WIDE ? 380 : 430, (axis) => ({
    margin: { l: 56, r: 14, t: 22, b: 44 },
    xaxis: Object.assign({}, axis, { title: { text: plain(curve.column) }, anchor: "y" }),
    yaxis: Object.assign({}, axis, { title: { text: "clips kept" }, domain: [0, 0.44], rangemode: "tozero" }),
    yaxis2: Object.assign({}, axis, { title: { text: "clips by score" }, domain: [0.54, 1] }),
    shapes: [line(curve.value, "rejected-ink", "dash"), ...(moved ? [line(curve.places[at], "ink", "solid")] : [])],
    annotations: [{ x: curve.value, y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text: `${curve.side} ${label(curve.value)}`, font: { color: colour("rejected-ink"), size: 12 } }],
  }));
  draw(place, traces, layout);
}

const label = (value) => Number(value.toPrecision(7)).toString();

function tell() {
  const curve = current();
  const slide = document.getElementById("slide");
  const at = Number(slide.value);
  const now = standing(curve);
  const bound = curve.side === "min" ? "at least" : "at most";
  const count = curve.kept[at] - curve.kept[now];
  const seconds = curve.kept_s[at] - curve.kept_s[now];
  const effect = document.getElementById("effect");
  const change = count === 0 ? "as many as now" : count > 0 ? `+${many(count)}, +${hours(seconds)}` : `−${many(-count)}, ${hours(seconds)}`;
  effect.replaceChildren(`${curve.column} ${bound} `, make("b", null, label(curve.places[at])), at === now ? " (where it stands): " : ": ",
    make("b", { id: "kept-now" }, `${many(curve.kept[at])} kept`), `, ${hours(curve.kept_s[at])} (`,
    make("span", { class: count > 0 ? "gain" : count < 0 ? "loss" : "", id: "change" }, change), ")");
  slide.setAttribute("aria-valuetext", effect.textContent);
  const command = document.getElementById("command");
  command.hidden = at === now;
  command.textContent = `clipmill judge ${data.name} ${curve.set.replaceAll("{}", label(curve.places[at]))}`;
}

function choose() {
  const curve = current();
  const slide = document.getElementById("slide");
  slide.max = String(curve.places.length - 1);
  slide.value = String(standing(curve));
  move();
}

function move() { tell(); drawExplorer(); }

function startExplorer() {
  const pick = document.getElementById("pick");
  if (!pick) return;
  pick.append(...data.curves.map((curve, i) => make("option", { value: String(i) },
    `${curve.column} ${curve.side === "min" ? "at least" : "at most"} ${label(curve.value)}${curve.quantile === null ? "" : " (a quantile)"}: ${many(curve.alone)} fail it alone`)));
  pick.addEventListener("input", choose);
  document.getElementById("slide").addEventListener("input", move);
  document.getElementById("reset").addEventListener("click", choose);
  choose();
  document.getElementById("explore").on("plotly_click", (event) => {
    const x = event.points[0].x;
    const { places } = current();
    const nearest = places.reduce((best, place, i) => (Math.abs(place - x) < Math.abs(places[best] - x) ? i : best), 0);
    document.getElementById("slide").value = String(nearest);
    move();
  });
}
