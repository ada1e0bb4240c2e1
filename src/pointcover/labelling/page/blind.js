// The blind page of `pointcover label --sample`. All text from files is set as text, never as HTML.
"use strict";

import { $, element, send, swatch, tell, tilesOf, toLatLng } from "./shared.js";

const FIRST_ZOOM_PX = 24; // side of a pixel's square in the window at first, if that is not too close

const page = {
  state: null,
  current: 0, // place of the point in state.points
  image: -1,
  unsaved: null, // {point, label} that the server did not take
};

const ask = (path, values) => send(path, values, page.state && page.state.session);

// The image -----------------------------------------------------------------------------------------

const map = L.map("map", {
  crs: L.CRS.Simple, attributionControl: false, minZoom: -3, maxZoom: 5, fadeAnimation: false, zoomAnimation: false,
  keyboard: false,
});
let tiles = null;
let mark = null;

function openImage(number) {
  if (page.image === number) return;
  page.image = number;
  const image = page.state.images[number];
  if (tiles) tiles.remove();
  tiles = tilesOf(image, () => `${page.state.session}/images/${number}/tiles`, {
    tileSize: page.state.tile_px, minZoom: -3, maxZoom: 5, keepBuffer: 1,
  });
  map.setMinZoom(-(image.levels - 1));
}

function show(number) {
  page.current = number;
  const point = page.state.points[number];
  const isFirst = page.image < 0;
  openImage(point.image);
  const zoom = isFirst ? firstZoom(point) : map.getZoom();
  map.setView(toLatLng(point.x, point.y), zoom, { animate: false });
  if (!map.hasLayer(tiles)) tiles.addTo(map);
  drawMark(point);
  draw();
}

const firstZoom = (point) => Math.max(0, Math.min(2, Math.floor(Math.log2(FIRST_ZOOM_PX / point.side_px))));

// The unit that is sampled: the pixel of the map that the point lies in, or the block.
function drawMark({ x, y, side_px: side }) {
  if (mark) mark.remove();
  const half = side / 2;
  const bounds = L.latLngBounds(toLatLng(x - half, y + half), toLatLng(x + half, y - half));
  const line = (color, weight) => L.rectangle(bounds, { color, weight, fill: false, interactive: false });
  const ring = (color, weight) => L.circleMarker(toLatLng(x, y), { radius: 26, color, weight, fill: false, interactive: false });
  mark = L.featureGroup([ring("#000000", 5), ring("#ffeb3b", 2), line("#000000", 4), line("#ffeb3b", 2)]).addTo(map);
}

// Answers -------------------------------------------------------------------------------------------

async function answer(label) {
  if (page.unsaved && page.unsaved.point !== page.state.points[page.current]) return;
  const point = page.state.points[page.current];
  page.unsaved = { point, label };
  draw();
  try {
    Object.assign(point, await ask("answer", { id: point.id, class: label }));
  } catch (error) {
    tell(`${error.message} The answer is kept in this page. Leave it open, then save again.`, true);
    draw();
    return;
  }
  page.unsaved = null;
  tell("");
  if (page.state.points[page.current] === point) goToOpen();
  else draw();
}

const placeOf = (state, from) => {
  const { points } = page.state;
  for (let step = 0; step < points.length; step += 1) {
    const number = (from + step) % points.length;
    if (points[number].state === state) return number;
  }
  return -1;
};

function goToOpen() {
  const number = placeOf("open", page.current);
  if (number >= 0) show(number);
  else draw();
}

function step(by) {
  const count = page.state.points.length;
  show((page.current + by + count) % count);
}

// The panel -----------------------------------------------------------------------------------------

function draw() {
  const { points, classes, missing } = page.state;
  const point = points[page.current];
  const waiting = page.unsaved && page.unsaved.point === point;
  const chosen = waiting ? page.unsaved.label : point.state === "labelled" ? point.class : undefined;
  $("which").textContent = `Point ${page.current + 1} of ${points.length}`;
  const count = (state) => points.filter((one) => one.state === state).length;
  const [labelled, unsure] = [count("labelled"), count("unsure")];
  $("progress").value = (labelled + unsure) / points.length;
  $("counts").textContent = `${labelled} labelled, ${unsure} “cannot tell”, ${points.length - labelled - unsure} open` +
    (missing ? `. ${missing} more lie in none of the images that were given.` : "");
  $("answers").replaceChildren(...classes.map((one, number) => {
    const key = number < 9 ? [element("kbd", { textContent: String(number + 1) })] : [];
    const button = element("button", { type: "button" }, swatch(one.colour), element("span", { textContent: one.name }), ...key);
    button.setAttribute("aria-pressed", String(chosen === one.name));
    button.onclick = () => answer(one.name);
    return button;
  }));
  $("unsure").setAttribute("aria-pressed", String(waiting ? page.unsaved.label === null : point.state === "unsure"));
  $("first-unsure").disabled = !unsure;
  $("open").disabled = placeOf("open", 0) < 0;
  $("done").hidden = placeOf("open", 0) >= 0;
  $("map-state").textContent = page.state.images[point.image].name;
  const pill = $("saved");
  const isFailed = page.unsaved && !$("banner").hidden;
  pill.className = isFailed ? "pill bad" : page.unsaved ? "pill" : "pill good";
  pill.textContent = isFailed ? "1 not saved" : page.unsaved ? "saving …" : `${labelled + unsure} of ${points.length} saved`;
}

$("unsure").onclick = () => answer(null);
$("back").onclick = () => step(-1);
$("forward").onclick = () => step(1);
$("open").onclick = () => { page.current = (page.current + 1) % page.state.points.length; goToOpen(); };
$("first-unsure").onclick = () => show(placeOf("unsure", 0));
$("open-help").onclick = () => $("help").showModal();
$("close-banner").onclick = () => tell("");
$("retry").onclick = () => {
  const { point, label } = page.unsaved;
  show(page.state.points.indexOf(point));
  answer(label);
};

document.addEventListener("keydown", (event) => {
  if (!page.state || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const key = event.key.toLowerCase();
  if (key >= "1" && key <= "9" && key.length === 1) {
    const chosen = page.state.classes[Number(key) - 1];
    if (chosen) answer(chosen.name);
  } else if (key === "u") answer(null);
  else if (key === "arrowleft" || key === "backspace") step(-1);
  else if (key === "arrowright") step(1);
  else if (key === "n") $("open").click();
  else if (key === "c") show(page.current);
  else if (key === "+" || key === "=") map.zoomIn();
  else if (key === "-") map.zoomOut();
  else if (key === "?") $("help").showModal();
  else return;
  event.preventDefault();
});

window.addEventListener("beforeunload", (event) => {
  if (page.unsaved) event.preventDefault();
});
window.addEventListener("resize", () => map.invalidateSize());

async function open() {
  try {
    page.state = await ask("state");
  } catch (error) {
    tell(error.message);
    return;
  }
  $("sample").textContent = page.state.sample;
  document.title = `${page.state.sample} – pointcover label`;
  $("command").textContent = `pointcover assess MAP… ${page.state.sample} --out report`;
  show(Math.max(placeOf("open", 0), 0));
  document.body.dataset.ready = "1";
}

open();
