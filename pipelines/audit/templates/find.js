"use strict";
// The search box: every text is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = new Map(data.clips.map((clip) => [clip.id, clip]));
const MAX_HITS = 60;
const RANK = ["rejected", "failed", "unjudged", "kept"]; // what is looked for comes first
let shown = null;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") node.className = value; else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function frame(id) {
  const source = data.pictures[id];
  const box = make("span", { class: "frame" });
  box.append(source ? make("img", { src: source, alt: "A frame of clip " + id.slice(0, 12) }) : "no picture");
  return box;
}

function fillPictures() {
  for (const image of document.querySelectorAll("img[data-clip]")) {
    const source = data.pictures[image.dataset.clip];
    if (source) image.src = source; else image.replaceWith("no picture");
  }
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => open(button.dataset.open, true));
  }
}

function matches(clip, text, verdict, reason) {
  if (verdict && clip.verdict !== verdict) return false;
  if (reason && !clip.why.some((why) => why[0] === reason)) return false;
  if (!text) return true;
  return clip.id.startsWith(text) || [clip.name, clip.title, clip.source, clip.license, ...clip.why.flat()]
    .some((part) => (part || "").toLowerCase().includes(text));
}

function search() {
  const text = document.getElementById("query").value.trim().toLowerCase();
  const verdict = document.getElementById("of-verdict").value;
  const reason = document.getElementById("of-reason").value;
  const found = data.clips.filter((clip) => matches(clip, text, verdict, reason))
    .sort((a, b) => RANK.indexOf(a.verdict) - RANK.indexOf(b.verdict));
  const list = document.getElementById("hits");
  list.replaceChildren(...found.slice(0, MAX_HITS).map(hit));
  const more = found.length > MAX_HITS ? `, the first ${MAX_HITS} shown` : "";
  document.getElementById("count").textContent =
    found.length === 1 ? "1 clip" : `${found.length.toLocaleString("en")} clips${more}`;
  if (found.length && (!shown || !found.includes(byId.get(shown)))) open(found[0].id, false);
}

function hit(clip) {
  const why = clip.why.length ? clip.why.map((reason) => reason[0].replaceAll("_", " ")).join(", ") : clip.verdict;
  const button = make("button", { class: "hit", type: "button", "data-hit": clip.id, "aria-pressed": String(clip.id === shown) },
    frame(clip.id),
    make("span", null, make("b", { title: clip.name }, clip.name),
      make("small", null, clip.span), make("small", null, why)));
  button.addEventListener("click", () => open(clip.id, false));
  return button;
}

function open(id, jump) {
  const clip = byId.get(id);
  if (!clip) return;
  shown = id;
  document.getElementById("detail").replaceChildren(...detail(clip));
  for (const button of document.querySelectorAll("[data-hit]")) {
    button.setAttribute("aria-pressed", String(button.dataset.hit === id));
  }
  if (jump) document.getElementById("find").scrollIntoView();
}

function detail(clip) {
  const parts = [
    make("h3", null, clip.name, " ", make("span", { class: "mark " + clip.verdict }, clip.verdict)),
    make("p", { class: "soft" }, [clip.span, clip.length, clip.split && "split " + clip.split].filter(Boolean).join(" · ")),
    clip.title ? make("p", { class: "soft" }, clip.title) : null,
    make("p", { class: "answer " + clip.verdict, id: "answer" }, clip.answer),
  ];
  if (clip.set.length) {
    parts.push(make("p", { class: "command soft" }, make("code", null, `clipmill judge ${data.name} ${clip.set.join(" ")}`)));
  }
  const pair = make("div", { class: "pair" }, make("figure", null, frame(clip.id), make("figcaption", null, "this clip")));
  if (clip.like) {
    const [other, words, reference] = clip.like;
    const figure = make("figure", null, frame(other), make("figcaption", null,
      (reference ? `in ${reference}, clip ${other.slice(0, 12)}: ` : `the one that stays, clip ${other.slice(0, 12)}: `) + words));
    pair.append(figure);
  }
  parts.push(pair);
  if (clip.why.length > 1) {
    parts.push(make("h4", null, "All reasons"),
      make("ul", null, ...clip.why.map((why) => make("li", { title: why[0] }, `${why[1]}: ${why[2]}`))));
  }
  if (clip.scores.length) parts.push(make("h4", null, "Scores against their thresholds"), scores(clip));
  if (clip.said) parts.push(make("h4", null, "Caption"), make("p", null, "“" + clip.said + "”"));
  const known = [clip.source && "source " + clip.source, "licence " + (clip.license || "unknown")].filter(Boolean).join(", ");
  parts.push(make("p", { class: "notes" }, `${known}; clip ${clip.id}`));
  return parts.filter(Boolean);
}

function scores(clip) {
  const rows = clip.scores.map(([column, value, wanted, passes, margin]) => make("tr", null,
    make("td", { class: "mono" }, column), make("td", { class: "num" }, value), make("td", { class: "words" }, wanted),
    make("td", { class: passes === false ? "fails" : "soft" },
      passes === null ? "" : passes ? `passes by ${number(margin)}` : margin === null ? "fails" : `fails by ${number(margin)}`)));
  return make("div", { class: "scroll" }, make("table", { class: "plain values" },
    make("thead", null, make("tr", null, make("th", null, "Score"), make("th", { class: "num" }, "Value"), make("th", null, "Wanted"), make("th", null, ""))),
    make("tbody", null, ...rows)));
}

function number(value) {
  if (value === null || value === undefined) return "?";
  return Math.abs(value).toLocaleString("en", { maximumSignificantDigits: 3 });
}

function startSearch() {
  if (!document.getElementById("query")) return;
  const fill = (id, values) => document.getElementById(id).append(...values.map((value) => make("option", { value }, value.replaceAll("_", " "))));
  fill("of-verdict", [...new Set(data.clips.map((clip) => clip.verdict))].sort());
  fill("of-reason", [...new Set(data.clips.flatMap((clip) => clip.why.map((why) => why[0])))].sort());
  for (const id of ["query", "of-verdict", "of-reason"]) document.getElementById(id).addEventListener("input", search);
  const first = data.clips.find((clip) => clip.why.length === 1) || data.clips.find((clip) => clip.why.length) || data.clips[0];
  if (first) open(first.id, false);
  search();
}
