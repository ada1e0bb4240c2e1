// The page of `pointcover label`. All text from files or people is set as text, never as HTML.
"use strict";

import { $, Refused, boundsOf, element, send, swatch, tell, tilesOf, toLatLng } from "./shared.js";

const STATUS_PAUSE_MS = 1000;

const page = {
  state: null, // what the server said when the page opened
  status: null,
  isStopped: false, // the server shows another project
  session: "", // id of the start of the server, and after the dash of the project and its images
  image: 0,
  points: new Map(), // by id: {record, marker}
  changes: 0, // of the points that this page knows of
  pending: [], // labels that are not confirmed: {id, image, x, y, class, marker, failed}; of polygons with `sent`
  current: 0, // number of the class of the next point
  chosen: null, // id of a point
  suggestions: [], // of one map
  suggestedBy: 0, // the number of that map
  suggestion: null,
  wantsNext: false, // the next point is jumped to as soon as there is a map
  doubt: -1,
  layer: "classes",
  tool: "point",
};

// Requests ------------------------------------------------------------------------------------------

class OtherProject extends Refused {
  constructor(text) {
    super(text);
    page.isStopped = true;
  }
}

const projectOf = (session) => session.split("-")[1];

// Stops this tab where the server shows another project: images and maps are known by number only.
function checkSession(session) {
  if (page.session && projectOf(session) !== projectOf(page.session)) {
    throw new OtherProject(
      "Another project, or other images, are open at this address now, so this tab has stopped. Reload it to see them.");
  }
}

async function ask(path, values) {
  const found = await send(path, values, page.session, OtherProject);
  if (found && found.session) checkSession(found.session);
  if (found && (found.point || found.points && !found.classes)) noteChange(found.changes);
  return found;
}

// Where changes lie between, the page does not know them: the next status then leads to a reload.
function noteChange(changes) {
  if (changes === page.changes + 1) page.changes = changes;
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (page.pending.some((one) => one.failed)) sayUnsaved(error.message);
    else tell(error.message);
    return null;
  }
}

// The map -------------------------------------------------------------------------------------------

const map = L.map("map", {
  crs: L.CRS.Simple, attributionControl: false, zoomControl: true, minZoom: -12, maxZoom: 4,
  boxZoom: false, zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches, fadeAnimation: false,
  doubleClickZoom: false,
});
map.createPane("prediction").style.zIndex = 300;
map.createPane("trained").style.zIndex = 310;
let trained = null; // tiles of the map of the trained model
let tiles = null;
let overlay = null;

const described = () => page.state.images[page.image];
const toPlace = (latlng) => ({ x: latlng.lng, y: -latlng.lat });

function openImage(number, place = null) {
  endStroke();
  endBrush();
  cancelPolygon();
  page.image = number;
  page.wantsNext = false;
  const image = described();
  if (tiles) tiles.remove();
  hideOverlay();
  clearSuggestion();
  page.suggestions = [];
  map.setMinZoom(-(image.levels - 1) - 2);
  const bounds = boundsOf(image);
  tiles = tilesOf(image, () => `${page.session}/images/${number}/tiles`, {
    tileSize: page.state.tile_px, minZoom: -12, maxZoom: 4, keepBuffer: 1,
  }).addTo(map);
  map.setMaxBounds(bounds.pad(0.5));
  drawTrained();
  if (place) map.setView(toLatLng(place.x, place.y), Math.min(0, map.getZoom() ?? 0), { animate: false });
  else map.fitBounds(bounds, { animate: false });
  $("image").value = String(number);
  drawPoints();
  page.pending.forEach(showPending);
  drawPanels();
  drawStatus();
  showView();
}

let viewTimer = 0;
function showView() {
  clearTimeout(viewTimer);
  viewTimer = setTimeout(sendView, 80);
}

function levelOfView() {
  return Math.min(Math.max(-Math.round(map.getZoom()), 0), described().levels - 1);
}

async function sendView() {
  const level = levelOfView();
  const scale = 2 ** level;
  const bounds = map.getBounds();
  const [top, left] = [-bounds.getNorth(), bounds.getWest()].map((v) => Math.floor(v / scale));
  const [bottom, right] = [-bounds.getSouth(), bounds.getEast()].map((v) => Math.ceil(v / scale));
  await attempt(() => ask("view", { image: page.image, level, top, left, bottom, right }));
}

map.on("moveend", () => { if (page.state) { showView(); clipOverlay(); } });
map.on("move", clipOverlay);

function hideOverlay() {
  if (overlay) overlay.remove();
  overlay = null;
}

// What the live map shows: on the left of the border, on the right, or alone.
function liveLayer() {
  if (page.layer === "classes" || page.layer === "confidence") return page.layer;
  return $("swipes").checked && $("other").value === "classes" ? "classes" : "none";
}

const showsTrained = () => page.layer === "trained" || ($("swipes").checked && $("other").value === "trained");

function drawTrained() {
  const known = page.status && page.status.trained;
  const isWanted = known && known.images.includes(page.image) && showsTrained();
  const key = isWanted ? `${known.number}/${page.image}` : "";
  if (trained && trained.options.key === key) return;
  if (trained) trained.remove();
  trained = null;
  if (!isWanted) return;
  trained = tilesOf(described(), () => `${page.session}/trained/${key}`, {
    key, tileSize: page.state.tile_px, minZoom: -12, maxZoom: 4, keepBuffer: 1,
    pane: "trained", opacity: $("opacity").value / 100, className: "trained-tile",
  }).addTo(map);
  clipOverlay();
}

function drawOverlay() {
  const shown = page.status && page.status.map;
  const layer = liveLayer();
  drawTrained();
  if (!shown || shown.image !== page.image || layer === "none") {
    if (!shown || layer === "none") hideOverlay();
    return;
  }
  const key = `${shown.number}/${layer}`;
  if (overlay && overlay.key === key) return;
  const url = `api/${page.session}/map/${key}.png`;
  const scale = 2 ** shown.level;
  const { top, left, height, width } = shown.extent;
  const bounds = L.latLngBounds(
    toLatLng(left * scale, (top + height) * scale), toLatLng((left + width) * scale, top * scale));
  const image = new Image();
  image.onload = () => {
    if (page.status.map !== shown && page.status.map && page.status.map.number !== shown.number) return;
    if (shown.image !== page.image) return;
    const fresh = L.imageOverlay(url, bounds, {
      pane: "prediction", opacity: $("opacity").value / 100, className: "overlay", interactive: false,
    }).addTo(map);
    fresh.key = key;
    const old = overlay;
    overlay = fresh;
    const done = () => {
      if (old) old.remove();
      document.body.dataset.map = String(shown.number);
      document.body.dataset.changes = String(shown.changes);
    };
    fresh.getElement().complete ? done() : fresh.once("load", done);
    clipOverlay();
  };
  image.src = url;
}

function clipOverlay() {
  const panes = { live: map.getPane("prediction"), trained: map.getPane("trained") };
  if (!$("swipes").checked || !page.state) {
    for (const pane of Object.values(panes)) pane.style.clipPath = "";
    return;
  }
  const size = map.getSize();
  const corner = map.containerPointToLayerPoint([0, 0]);
  const border = corner.x + size.x * $("swipe").value / 100;
  const clip = (pane, left, right) => {
    const points = [[left, corner.y], [right, corner.y], [right, corner.y + size.y], [left, corner.y + size.y]];
    pane.style.clipPath = `polygon(${points.map(([x, y]) => `${x}px ${y}px`).join(",")})`;
  };
  const isLeft = { live: page.layer === "classes" || page.layer === "confidence", trained: page.layer === "trained" };
  for (const [name, pane] of Object.entries(panes)) {
    if (isLeft[name]) clip(pane, corner.x, border);
    else clip(pane, border, corner.x + size.x);
  }
}

// Points --------------------------------------------------------------------------------------------

const nameOfImage = () => described().name;
const classCalled = (name) => page.state.classes.find((one) => one.name === name);
const colourOf = (name) => (classCalled(name) || { colour: "#888888" }).colour;

function makeMarker(x, y, kind, title) {
  const icon = L.divIcon({ className: kind, iconSize: null });
  return L.marker(toLatLng(x, y), { icon, keyboard: false, draggable: kind === "point", autoPanOnFocus: false, title });
}

function paint(marker, colour) {
  const element = marker.getElement();
  if (element) element.style.backgroundColor = colour;
}

function drawPoints() {
  for (const one of page.points.values()) if (one.marker) one.marker.remove();
  page.points.clear();
  for (const record of page.state.points) {
    const entry = { record, marker: null };
    page.points.set(record.id, entry);
    if (record.image === nameOfImage()) putMarker(entry);
  }
}

// The shape of a polygon, in its colour with a white and a black border, so that it shows on any image and map.
function makeArea(rings, colour, kind = "area") {
  const latlngs = rings.map((ring) => ring.map(([x, y]) => toLatLng(x, y)));
  const border = (color, weight) => L.polygon(latlngs, { color, weight, fill: false, interactive: false });
  const front = L.polygon(latlngs, { color: colour, weight: 2.5, fillColor: colour, fillOpacity: 0.25, className: kind });
  return L.featureGroup([border("#000000", 7), border("#ffffff", 5), front]);
}

function putArea(entry) {
  const { record } = entry;
  entry.marker = makeArea(record.shape, colourOf(record.class)).addTo(map);
  entry.marker.on("click", (event) => { L.DomEvent.stop(event); choose(record.id); });
  entry.marker.on("contextmenu", (event) => { L.DomEvent.stop(event); removePoint(record.id); });
  markChosen(entry, page.chosen === record.id);
}

function markChosen({ marker, record }, isChosen) {
  if (!record.shape) marker.getElement().classList.toggle("chosen", isChosen);
  else marker.getLayers()[1].setStyle({ color: isChosen ? "#000000" : "#ffffff", weight: isChosen ? 9 : 5 });
}

function putMarker(entry) {
  if (entry.record.shape) {
    putArea(entry);
    return;
  }
  const { record } = entry;
  const marker = makeMarker(record.x, record.y, "point", record.class);
  entry.marker = marker;
  marker.addTo(map);
  paint(marker, colourOf(record.class));
  marker.on("click", () => choose(record.id));
  marker.on("contextmenu", () => removePoint(record.id));
  marker.on("dragend", () => movePoint(record.id, toPlace(marker.getLatLng())));
  markChosen(entry, page.chosen === record.id);
}

function take(record) {
  const list = page.state.points.filter((one) => one.id !== record.id);
  if (record.state === "labelled") list.push(record);
  page.state.points = list;
  const known = page.points.get(record.id);
  if (known && known.marker) known.marker.remove();
  page.points.delete(record.id);
  if (record.state === "labelled") {
    const entry = { record, marker: null };
    page.points.set(record.id, entry);
    if (record.image === nameOfImage()) putMarker(entry);
  } else if (page.chosen === record.id) page.chosen = null;
  drawPanels();
}

function choose(id) {
  page.chosen = id;
  for (const [key, one] of page.points) {
    if (one.marker) markChosen(one, key === id);
  }
  for (const row of document.querySelectorAll("#points tr[data-id]")) {
    row.classList.toggle("chosen", row.dataset.id === id);
  }
}

// The page makes the id of a point: so the server knows a point again whose answer was lost.
function makeId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

function makePending(image, { x, y }, chosen) {
  const pending = { id: makeId(), image, x, y, class: chosen.name, failed: false };
  pending.marker = makeMarker(x, y, "point saving", chosen.name);
  page.pending.push(pending);
  showPending(pending);
  return pending;
}

// A polygon that is sent again is drawn as at first.
function redrawPending(pending) {
  if (!pending.sent.outline) {
    pending.marker.setStyle({ color: colourOf(pending.class), dashArray: null });
    return;
  }
  pending.marker.remove();
  pending.marker = makeArea([pending.sent.outline], colourOf(pending.class)).addTo(map);
}

function showPending(pending) {
  pending.marker.remove();
  if (pending.image !== page.image) return;
  pending.marker.addTo(map);
  if (pending.sent) {
    if (pending.failed) pending.marker.setStyle({ color: "#ff1f1f", dashArray: "4 4" });
    else redrawPending(pending);
    return;
  }
  paint(pending.marker, colourOf(pending.class));
  pending.marker.getElement().classList.toggle("failed", pending.failed);
}

function markFailed(pending, failed) {
  pending.failed = failed;
  showPending(pending);
}

function dropPending(pending) {
  page.pending = page.pending.filter((one) => one !== pending);
  pending.marker.remove();
}

async function addPoint(place) {
  const image = described();
  if (place.x < 0 || place.y < 0 || place.x >= image.width || place.y >= image.height) return;
  const chosen = page.state.classes[page.current];
  if (!chosen) {
    hint();
    $("new-name").focus();
    return;
  }
  const pending = makePending(page.image, place, chosen);
  const wasSuggested = page.suggestion !== null && near(place, page.suggestion);
  if (wasSuggested) clearSuggestion();
  await save(pending);
  if (wasSuggested) nextSuggestion();
}

// Polygons and the brush ----------------------------------------------------------------------------

const TOOL_TEXTS = {
  point: "",
  polygon: "Click on the corners; a click on the first one, or F, finishes the polygon.",
  brush: "Drag over the area. With two fingers, or the arrow keys, the image moves.",
};
const FIRST_CORNER_PX = 12;
const BRUSH_STEP_PX = 3;
let sketch = null; // of a polygon: {image, chosen, corners, marker}
let brush = null; // of a brush: {image, chosen, radius, line, last, marker}

function setTool(tool) {
  cancelPolygon();
  endBrush();
  page.tool = tool;
  for (const radio of document.getElementsByName("tool")) radio.checked = radio.value === tool;
  $("brush-row").hidden = tool !== "brush";
  $("tool-text").hidden = tool === "point";
  $("tool-text").textContent = TOOL_TEXTS[tool] + (tool === "point" ? "" :
    ` The map learns from ${page.state.polygon_px} pixels of each, drawn at random; all of them are exported.`);
  map.getContainer().classList.toggle("draws", tool !== "point");
  if (tool === "brush") map.dragging.disable();
  else map.dragging.enable();
  hint();
}

function inside({ x, y }) {
  const { width, height } = described();
  return { x: Math.min(Math.max(x, 0), width), y: Math.min(Math.max(y, 0), height) };
}

function addCorner(place) {
  const chosen = page.state.classes[page.current];
  if (!chosen) {
    hint();
    $("new-name").focus();
    return;
  }
  if (!sketch) sketch = { image: page.image, chosen, corners: [], marker: null };
  const { corners } = sketch;
  if (corners.length > 2) {
    const first = map.latLngToContainerPoint(toLatLng(corners[0].x, corners[0].y));
    if (map.latLngToContainerPoint(toLatLng(place.x, place.y)).distanceTo(first) < FIRST_CORNER_PX) {
      finishPolygon();
      return;
    }
  }
  corners.push(inside(place));
  drawSketch();
}

function drawSketch() {
  if (sketch.marker) sketch.marker.remove();
  const latlngs = sketch.corners.map(({ x, y }) => toLatLng(x, y));
  const colour = colourOf(sketch.chosen.name);
  sketch.marker = L.featureGroup([
    L.polygon(latlngs, { color: "#000000", weight: 5, fill: false, interactive: false }),
    L.polygon(latlngs, { color: colour, weight: 3, fillColor: colour, fillOpacity: 0.25, dashArray: "6 5", interactive: false }),
    ...latlngs.map((one, number) => L.circleMarker(one, {
      radius: number ? 4 : 7, color: "#000000", weight: 1.5, fillColor: "#ffffff", fillOpacity: 1, interactive: false })),
  ]).addTo(map);
  $("drawing").hidden = false;
  $("finish").disabled = sketch.corners.length < 3;
  hint();
}

function takeCornerBack() {
  if (!sketch) return;
  sketch.corners.pop();
  if (sketch.corners.length) drawSketch();
  else cancelPolygon();
}

function cancelPolygon() {
  if (sketch && sketch.marker) sketch.marker.remove();
  sketch = null;
  $("drawing").hidden = true;
  if (page.state) hint();
}

// A refused outline, such as one that crosses itself, stays a sketch, so that corners can be taken back.
async function finishPolygon() {
  if (!sketch || sketch.corners.length < 3) return;
  const done = sketch;
  cancelPolygon();
  const outline = done.corners.map(({ x, y }) => [x, y]);
  const pending = makePendingArea(done, { outline }, makeArea([outline], colourOf(done.chosen.name)));
  const error = await save(pending);
  if (error && error.isRefused && !sketch && page.image === done.image) {
    dropPending(pending);
    drawSaved();
    tell(error.message);
    sketch = { ...done, marker: null };
    drawSketch();
  }
}

function makePendingArea({ image, chosen }, sent, marker) {
  const pending = { id: makeId(), image, class: chosen.name, failed: false, sent, marker };
  page.pending.push(pending);
  showPending(pending);
  return pending;
}

function startBrush(event) {
  const chosen = page.state.classes[page.current];
  if (!chosen) {
    hint();
    $("new-name").focus();
    return;
  }
  const radius = $("brush").value / 2 / 2 ** map.getZoom();
  const marker = L.polyline([event.latlng], {
    color: colourOf(chosen.name), weight: Number($("brush").value), opacity: 0.6, lineCap: "round", interactive: false,
  }).addTo(map);
  brush = { image: page.image, chosen, radius, line: [inside(toPlace(event.latlng))], last: event.containerPoint, marker };
}

function moveBrush(event) {
  if (event.containerPoint.distanceTo(brush.last) < BRUSH_STEP_PX) return;
  brush.last = event.containerPoint;
  brush.line.push(inside(toPlace(event.latlng)));
  brush.marker.addLatLng(event.latlng);
}

async function endBrush() {
  if (!brush) return;
  const done = brush;
  brush = null;
  const sent = { line: done.line.map(({ x, y }) => [x, y]), radius_px: Math.max(done.radius, 0.5) };
  const pending = makePendingArea(done, sent, done.marker);
  const error = await save(pending);
  if (error && error.isRefused) {
    dropPending(pending);
    drawSaved();
    tell(error.message);
  }
}

// Leaflet gives mouse events only: a finger that paints becomes one, and two fingers zoom.
const canvas = map.getContainer();
const asMouse = (touch) => {
  const containerPoint = map.mouseEventToContainerPoint(touch);
  return { containerPoint, latlng: map.containerPointToLatLng(containerPoint) };
};
canvas.addEventListener("touchstart", (event) => {
  if (page.tool !== "brush" || event.target.closest(".leaflet-control")) return;
  if (event.touches.length === 1) startBrush(asMouse(event.touches[0]));
  else if (brush) { // a second finger: no painting
    brush.marker.remove();
    brush = null;
  }
}, { passive: true });
canvas.addEventListener("touchmove", (event) => {
  if (brush && event.touches.length === 1) {
    event.preventDefault();
    moveBrush(asMouse(event.touches[0]));
  }
}, { passive: false });
canvas.addEventListener("touchend", endBrush);

// A stroke: points along a line that is drawn with Shift, undone together.
const STROKE_STEP_PX = 14;
let stroke = null;
let isOfStroke = false; // the button was pressed with Shift, so that the click at its end is no point

map.on("mousedown", (event) => {
  if (page.tool === "brush" && event.originalEvent.button === 0 && !brush) startBrush(event);
  if (page.tool !== "point") return;
  isOfStroke = event.originalEvent.shiftKey;
  if (!event.originalEvent.shiftKey || event.originalEvent.button !== 0 || !page.state.classes[page.current]) return;
  map.dragging.disable();
  stroke = {
    image: page.image, chosen: page.state.classes[page.current], last: event.containerPoint, places: [toPlace(event.latlng)],
  };
});
map.on("mousemove", (event) => {
  if (brush) moveBrush(event);
  if (!stroke || event.containerPoint.distanceTo(stroke.last) < STROKE_STEP_PX) return;
  stroke.last = event.containerPoint;
  stroke.places.push(toPlace(event.latlng));
});
document.addEventListener("mouseup", () => { endStroke(); endBrush(); });

function endStroke() {
  if (!stroke) return;
  const done = stroke;
  stroke = null;
  map.dragging.enable();
  if (done.places.length > 1) addStroke(done);
}

async function addStroke({ image, chosen, places }) {
  const { width, height } = page.state.images[image];
  const inside = places.filter((one) => one.x >= 0 && one.y >= 0 && one.x < width && one.y < height);
  const waiting = inside.map((place) => makePending(image, place, chosen));
  drawSaved();
  let reason = "";
  while (waiting.length && !reason) {
    const part = waiting.slice(0, page.state.most_of_stroke);
    try {
      const sent = part.map(({ id, x, y }) => ({ id, x, y }));
      const answer = await ask("add_stroke", { image, places: sent, class: part[0].class });
      waiting.splice(0, answer.points.length).forEach(dropPending);
      answer.points.forEach(take);
      if (answer.points.length < part.length) reason = "The disk is full.";
    } catch (error) {
      reason = error.message;
    }
  }
  for (const pending of waiting) markFailed(pending, true);
  if (waiting.length) sayUnsaved(reason);
  drawSaved();
}

async function save(pending) {
  drawSaved();
  try {
    const { id, image, x, y, sent } = pending;
    const what = sent || { x, y };
    const answer = await ask(sent ? "add_polygon" : "add", { id, image, class: pending.class, ...what });
    dropPending(pending);
    take(answer.point);
  } catch (error) {
    markFailed(pending, true);
    sayUnsaved(error.message);
    drawSaved();
    return error;
  }
  drawSaved();
  return null;
}

function sayUnsaved(reason) {
  const count = page.pending.filter((one) => one.failed).length;
  const kind = page.pending.some((one) => one.failed && one.sent) ? "label" : "point";
  const what = count === 1 ? `1 ${kind} is` : `${count} ${kind}s are`;
  const advice = page.isStopped
    ? "shown in this tab only. To save, start `pointcover label` with the former project on this port, then save again."
    : "kept in this page. Leave it open, then save again.";
  tell(`${reason} ${what} not saved, and ${advice}`, true);
}

async function saveAgain() {
  tell("");
  for (const pending of page.pending.filter((one) => one.failed)) {
    markFailed(pending, false);
    await save(pending);
    if (pending.failed) return;
  }
  if (page.isStopped) { // the former project is open again
    page.isStopped = false;
    follow();
  }
}

async function movePoint(id, place) {
  const image = described();
  const x = Math.min(Math.max(place.x, 0), image.width - 0.01);
  const y = Math.min(Math.max(place.y, 0), image.height - 0.01);
  const answer = await attempt(() => ask("move", { id, x, y }));
  if (answer) take(answer.point);
  else if (page.points.has(id)) take(page.points.get(id).record);
}

async function removePoint(id) {
  const answer = await attempt(() => ask("remove", { id }));
  if (answer) take(answer.point);
}

async function relabel(id, name) {
  const answer = await attempt(() => ask("relabel", { id, class: name }));
  if (answer) take(answer.point);
}

async function undoRedo(what) {
  const answer = await attempt(() => ask(what, {}));
  if (!answer || !answer.points.length) return;
  answer.points.forEach(take);
  showImageOf(answer.points[0]);
}

function showImageOf(record) {
  const number = page.state.images.findIndex((one) => one.name === record.image);
  if (number >= 0 && number !== page.image) openImage(number);
}

const near = (one, other) => Math.hypot(one.x - other.x, one.y - other.y) < 24 / 2 ** map.getZoom();

map.on("click", (event) => {
  if (page.tool === "polygon") addCorner(toPlace(event.latlng));
  else if (page.tool === "point" && !isOfStroke && !event.originalEvent.shiftKey) addPoint(toPlace(event.latlng));
});

// Suggestions and doubts ----------------------------------------------------------------------------

function clearSuggestion() {
  if (page.suggestion) page.suggestion.marker.remove();
  page.suggestion = null;
  $("skip").disabled = $("unsure").disabled = true;
}

async function nextSuggestion() {
  const wanted = page.image;
  clearSuggestion();
  const shown = page.status.map;
  page.wantsNext = false;
  if (!shown || shown.image !== wanted) {
    $("next-text").textContent = page.status.message || waitForMap();
    return;
  }
  if (!page.suggestions.length || page.suggestedBy !== shown.number) {
    const found = await attempt(() => ask("suggest", { image: wanted }));
    if (!found || wanted !== page.image) return;
    clearSuggestion();
    page.suggestions = found;
    page.suggestedBy = shown.number;
  }
  const one = page.suggestions.shift();
  if (!one && page.status.is_busy) { // a part of the view is not mapped yet
    page.wantsNext = true;
    $("next-text").textContent = "The map of this view is being made; the next point follows.";
    return;
  }
  if (!one) {
    $("next-text").textContent = "No place in view is far enough from other points: move or zoom out.";
    return;
  }
  page.suggestion = { ...one, marker: makeMarker(one.x, one.y, "suggestion", "suggested point").addTo(map) };
  page.suggestion.marker.on("click", () => addPoint(one));
  $("skip").disabled = $("unsure").disabled = false;
  $("next-text").textContent =
    `Now ${one.predicted}, uncertainty ${one.uncertainty.toFixed(2)}. Click on the yellow point, or press Enter on the map.`;
  const place = toLatLng(one.x, one.y);
  if (!map.getBounds().pad(-0.1).contains(place)) map.panTo(place, { animate: false });
}

// Without overviews, only the two finest levels are mapped.
function waitForMap() {
  page.wantsNext = true;
  if (page.status.overviews[page.image] === undefined || levelOfView() <= 1) {
    return "The map of this view is being made; the next point follows.";
  }
  map.setZoom(-1, { animate: false });
  return "Overviews of this image are being written, so this part of it comes first; the next point follows.";
}

async function passOver(state) {
  if (!page.suggestion) return;
  const { x, y } = page.suggestion;
  const answer = await attempt(() => ask("pass_over", { image: page.image, x, y, state }));
  if (answer) nextSuggestion();
}

function nextDoubt() {
  const doubts = page.status.scores ? page.status.scores.doubts : [];
  const known = doubts.filter((one) => page.state.points.some((point) => point.id === one.id));
  if (!known.length) return;
  page.doubt = (page.doubt + 1) % known.length;
  const doubt = known[page.doubt];
  const record = page.state.points.find((one) => one.id === doubt.id);
  showImageOf(record);
  map.setView(toLatLng(record.x, record.y), Math.max(map.getZoom(), 0), { animate: false });
  choose(record.id);
  $("wrong-text").textContent =
    `${page.doubt + 1} of ${known.length}: labelled ${doubt.label}, but with its surroundings left out it is ` +
    `${doubt.predicted} (${Math.round(100 * doubt.confidence)} %).`;
}

// The panel -----------------------------------------------------------------------------------------

function drawPanels() {
  drawClasses();
  drawImages();
  drawTable();
  hint();
}

function countsBy(key) {
  const counts = new Map();
  for (const one of page.state.points) counts.set(one[key], (counts.get(one[key]) || 0) + 1);
  return counts;
}

function drawClasses() {
  const box = $("classes");
  const had = document.activeElement && box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const counts = countsBy("class");
  box.replaceChildren(...page.state.classes.map((one, number) => {
    const radio = element("input", { type: "radio", name: "class", id: `class-${number}`, checked: number === page.current });
    radio.dataset.key = `radio ${number}`;
    radio.onchange = () => pickClass(number);
    const colour = element("input", { type: "color", value: one.colour.toLowerCase() });
    colour.setAttribute("aria-label", `Colour of ${one.name}`);
    colour.onchange = () => changeClass(number, { colour: colour.value.toUpperCase() });
    const label = element("label", { htmlFor: radio.id, textContent: one.name, title: "Double click to rename" });
    label.ondblclick = () => renameClass(number);
    const edit = element("button", { type: "button", className: "plain", textContent: "Rename", title: `Rename ${one.name}` });
    edit.setAttribute("aria-label", `Rename ${one.name}`);
    edit.onclick = () => renameClass(number);
    const count = element("span", { className: "count", textContent: String(counts.get(one.name) || 0) });
    count.title = "points";
    const key = number < 9 ? element("kbd", { textContent: String(number + 1) }) : element("span");
    const row = element("div", { className: "class" }, key, colour, element("span", {}, radio, label), count, edit);
    return row;
  }));
  if (had) box.querySelector(`[data-key="${had}"]`)?.focus();
}

function pickClass(number) {
  if (number >= page.state.classes.length) return;
  page.current = number;
  const radio = $(`class-${number}`);
  if (radio) radio.checked = true;
  hint();
}

async function sendClasses(classes, renamed = {}) {
  const state = await attempt(() => ask("classes", { classes, renamed }));
  if (!state) return drawClasses();
  tell("");
  for (const pending of page.pending) {
    if (Object.hasOwn(renamed, pending.class)) pending.class = renamed[pending.class];
  }
  Object.assign(page.state, { classes: state.classes, points: state.points, free_colour: state.free_colour });
  page.changes = state.changes;
  $("new-colour").value = state.free_colour.toLowerCase();
  drawPoints();
  page.pending.forEach(showPending);
  drawPanels();
  const failed = page.pending.some((one) => one.failed);
  if (failed) sayUnsaved("The classes are saved.");
}

const plain = () => page.state.classes.map(({ name, colour }) => ({ name, colour }));

function changeClass(number, changes) {
  const classes = plain();
  Object.assign(classes[number], changes);
  return sendClasses(classes);
}

function renameClass(number) {
  const old = page.state.classes[number].name;
  const label = $(`class-${number}`).nextElementSibling;
  const input = element("input", { type: "text", value: old, maxLength: 60 });
  input.setAttribute("aria-label", `New name of ${old}`);
  let isDone = false;
  const finish = (keeps) => {
    if (isDone) return;
    isDone = true;
    const name = input.value.trim();
    if (!keeps || !name || name === old) return drawClasses();
    const classes = plain();
    classes[number].name = name;
    sendClasses(classes, { [old]: name });
  };
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter") finish(true);
    if (event.key === "Escape") finish(false);
  };
  input.onblur = () => finish(true);
  label.replaceWith(input);
  input.select();
}

$("new-class").onsubmit = async (event) => {
  event.preventDefault();
  const name = $("new-name").value.trim();
  if (!name) return;
  const before = page.state.classes.length;
  await sendClasses([...plain(), { name, colour: $("new-colour").value.toUpperCase() }]);
  if (page.state.classes.length > before) {
    $("new-name").value = "";
    pickClass(before);
    drawClasses();
  }
};

function hint() {
  const classes = page.state.classes;
  $("hint").textContent = !classes.length
    ? "Name your classes in the panel first."
    : sketch ? `${sketch.corners.length} ${sketch.corners.length === 1 ? "corner" : "corners"} of ${sketch.chosen.name}`
    : !page.state.points.length
      ? `Click on the image where it is ${classes[page.current].name}.`
      : "";
}

function drawImages() {
  const counts = countsBy("image");
  const header = element("tr", {}, element("th", { textContent: "image" }), element("th", { textContent: "labels", className: "number" }));
  const rows = page.state.images.map((one, number) => {
    const open = element("button", { type: "button", className: "plain", textContent: one.name });
    open.onclick = () => openImage(number);
    if (number === page.image) open.setAttribute("aria-current", "true");
    const row = element("tr", { className: number === page.image ? "chosen" : "" }, element("td", {}, open),
      element("td", { className: "number", textContent: String(counts.get(one.name) || 0) }));
    return row;
  });
  $("images").replaceChildren(element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows)));
}

function drawTable() {
  const own = page.state.points.filter((one) => one.image === nameOfImage());
  if (!own.length) {
    $("points").replaceChildren(element("p", { className: "quiet", textContent: "None yet." }));
    return;
  }
  const titles = [["class", ""], ["column", "number"], ["row", "number"], ["", ""]];
  const header = element("tr", {}, ...titles.map(([textContent, className]) => element("th", { textContent, className })));
  const rows = own.slice().reverse().slice(0, 300).map((one) => {
    const kind = one.shape ? "polygon" : "point";
    const select = element("select", {}, ...page.state.classes.map(({ name }) => element("option", { textContent: name, value: name })));
    select.value = one.class;
    select.setAttribute("aria-label", `Class of the ${kind}`);
    select.onchange = () => relabel(one.id, select.value);
    const go = element("button", { type: "button", className: "plain", textContent: String(Math.floor(one.x)), title: `Show this ${kind}` });
    go.setAttribute("aria-label", `Show the ${kind} at column ${Math.floor(one.x)}, row ${Math.floor(one.y)}`);
    go.onclick = () => { map.panTo(toLatLng(one.x, one.y), { animate: false }); choose(one.id); };
    const remove = element("button", { type: "button", className: "plain", textContent: "×", title: "Remove" });
    remove.setAttribute("aria-label", `Remove the ${kind} at column ${Math.floor(one.x)}, row ${Math.floor(one.y)}`);
    remove.onclick = () => removePoint(one.id);
    const row = element("tr", { className: one.id === page.chosen ? "chosen" : "" },
      element("td", {}, swatch(colourOf(one.class)), select, ...(one.shape ? [areaSign()] : [])), element("td", { className: "number" }, go),
      element("td", { className: "number", textContent: String(Math.floor(one.y)) }), element("td", {}, remove));
    row.dataset.id = one.id;
    return row;
  });
  $("points").replaceChildren(element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows)));
}

function areaSign() {
  const made = element("span", { className: "sign", textContent: "⬠", title: "polygon" });
  made.setAttribute("aria-hidden", "true");
  return made;
}

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// Polygons are said only where there are some.
function sayLabels(points, polygons) {
  if (!polygons) return count(points, "point");
  return points ? `${count(points, "point")}, ${count(polygons, "polygon")}` : count(polygons, "polygon");
}

function drawSaved() {
  const failed = page.pending.filter((one) => one.failed).length;
  const pill = $("saved");
  const labels = page.state ? page.state.points : [];
  const polygons = labels.filter((one) => one.shape).length;
  pill.className = failed ? "pill bad" : page.pending.length ? "pill" : "pill good";
  pill.textContent = failed ? `${failed} not saved` : page.pending.length ? "saving …"
    : `${sayLabels(labels.length - polygons, polygons)} saved`;
}

const percent = (value) => value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)}\u00a0%`;

function drawQuality(scores) {
  $("wrong").disabled = !scores || !scores.doubts.length;
  if (!scores || scores.miou === null) return;
  const between = scores.interval ? `95 % interval ${percent(scores.interval[0])} to ${percent(scores.interval[1])}`
    : "no interval with fewer than 5 squares";
  const about = element("p", {}, element("span", { className: "figure", textContent: percent(scores.miou) }),
    element("span", { className: "quiet", textContent: ` mean IoU on own points, ${between}` }));
  const note = element("p", { className: "quiet", textContent:
    `${scores.points} labelled pixels in ${scores.squares} squares; each square was left out of its fit. Suggested points are ` +
    "hard ones, so the map is usually better than this." });
  const header = element("tr", {}, ...["class", "pixels", "IoU", "precision", "recall"].map((textContent, n) =>
    element("th", { textContent, className: n ? "number" : "" })));
  const rows = Object.entries(scores.by_class).map(([name, one]) => element("tr", {},
    element("td", {}, swatch(colourOf(name)), name),
    ...[String(one.points), percent(one.iou), percent(one.precision), percent(one.recall)].map((textContent) =>
      element("td", { className: "number", textContent }))));
  const parts = [about, element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows)), note];
  if (scores.curve.length > 1) parts.push(drawCurve(scores.curve));
  if (scores.verdict) parts.push(element("p", { textContent: scores.verdict }));
  $("quality").replaceChildren(...parts);
}

function drawCurve(curve) {
  const space = "http://www.w3.org/2000/svg";
  const make = (name, attributes, text) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const [width, height, left, bottom] = [320, 130, 34, 24];
  const most = curve[curve.length - 1].points;
  const x = (points) => left + (width - left - 8) * points / most;
  const y = (score) => 6 + (height - bottom - 6) * (1 - score);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Score against points" });
  for (const tick of [0, 0.5, 1]) {
    svg.append(make("line", { x1: left, x2: width - 8, y1: y(tick), y2: y(tick), stroke: "var(--line)" }),
      make("text", { x: left - 4, y: y(tick) + 3, "text-anchor": "end" }, `${100 * tick} %`));
  }
  const banded = curve.filter((one) => one.low !== null);
  if (banded.length > 1) {
    const edge = [...banded.map((one) => `${x(one.points)},${y(one.high)}`),
      ...banded.slice().reverse().map((one) => `${x(one.points)},${y(one.low)}`)];
    svg.append(make("polygon", { points: edge.join(" "), fill: "var(--accent)", "fill-opacity": 0.18 }));
  }
  svg.append(make("polyline", { points: curve.map((one) => `${x(one.points)},${y(one.miou)}`).join(" "), fill: "none",
    stroke: "var(--accent)", "stroke-width": 2 }),
  make("text", { x: left, y: height - 6 }, "0"),
  make("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, `${most} points`));
  return svg;
}

function drawJob(job) {
  for (const id of ["export", "map-images", "train"]) $(id).disabled = job.state === "running";
  if (job.state === "none") return;
  const parts = [element("p", { textContent: job.text, className: job.state === "failed" ? "bad" : "" })];
  if (job.state === "running" && job.fraction !== undefined) {
    parts.push(element("progress", { max: 1, value: job.fraction }));
  }
  if (job.files) {
    parts.push(...job.files.map((file) => element("p", {}, element("code", { textContent: file }))));
  }
  if (job.command) parts.push(element("pre", { textContent: job.command, tabIndex: 0 }));
  if (job.log) parts.push(element("pre", { textContent: job.log, tabIndex: 0 }));
  $("job").replaceChildren(...parts);
}

function drawTrainedModel(known) {
  $("trained-layer").hidden = $("trained").hidden = !known;
  $("other").options[2].hidden = !known;
  if (!known) return;
  if (page.layer !== "trained") $("other").options[2].disabled = false;
  const score = known.test_miou === null ? "" : `: mean IoU ${percent(known.test_miou)} on the labels of the test images`;
  $("trained-text").textContent = `Trained model ${known.experiment}${score}.`;
  $("run").hidden = !known.has_run;
}

// Status --------------------------------------------------------------------------------------------

function drawStatus() {
  const { status } = page;
  const isMapped = status.map && status.map.image === page.image && (status.map.number !== page.suggestedBy || !status.is_busy);
  if (page.wantsNext && (status.message || isMapped)) nextSuggestion();
  $("undo").disabled = !status.can_undo;
  $("redo").disabled = !status.can_redo;
  const { minutes, points_per_hour: rate } = status.pace;
  $("pace").textContent = `${Math.round(minutes)} min${rate === null ? "" : `, ${rate} points an hour`}`;
  drawOverlay();
  drawQuality(status.scores);
  drawJob(status.job);
  drawTrainedModel(status.trained);
  drawSaved();
  const reading = status.overviews[page.image];
  const failed = status.failed[page.image];
  let text = status.message;
  if (failed) text = failed;
  else if (reading !== undefined) text = `Overviews are being written: ${Math.round(100 * reading)} %. Zoom in to begin.`;
  else if (status.is_busy) text = "mapping …";
  else if (!text && status.map && status.map.image === page.image) {
    const level = status.map.level;
    const { points, polygons, pixels } = status.map.labels;
    text = `map of ${sayLabels(points, polygons)}${polygons ? ` (${pixels} of ${polygons === 1 ? "its" : "their"} pixels)` : ""}${level ? `, at 1 : ${2 ** level} of the resolution` : ""}`;
  }
  if (page.layer === "trained" && status.trained) {
    text = status.trained.images.includes(page.image) ? `map of the trained model ${status.trained.experiment}`
      : "The trained model has no map of this image.";
  }
  if (!page.state.classes.length) text = "";
  $("map-state").textContent = text;
}

async function follow() {
  let isLost = false;
  let written = "{}";
  for (;;) {
    try {
      page.status = await ask(`status?seen=${page.status ? page.status.number : ""}`);
      if (isLost || page.status.session !== page.session) { // a server that was started again knows neither the view nor its old maps
        isLost = false;
        page.session = page.status.session;
        tiles.redraw();
        tell("");
        hideOverlay();
        await reload();
        showView();
        if (page.pending.some((one) => one.failed)) sayUnsaved("The server answers again.");
      }
      const now = JSON.stringify(Object.keys(page.status.overviews));
      if (now !== written && tiles) tiles.redraw();
      written = now;
      if (page.status.changes !== page.changes && !page.pending.length) await reload();
      drawStatus();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error instanceof OtherProject) {
        stop(error);
        return;
      }
      isLost = true;
      page.status.number = "";
      tell(error.message, page.pending.some((one) => one.failed));
      $("saved").className = "pill bad";
      $("saved").textContent = "no connection";
      await new Promise((done) => setTimeout(done, STATUS_PAUSE_MS));
    }
  }
}

function stop(error) {
  page.status.number = "";
  for (const pending of page.pending) markFailed(pending, true);
  if (page.pending.length) sayUnsaved(error.message);
  else tell(error.message);
  $("saved").className = "pill bad";
  $("saved").textContent = "stopped";
}

async function reload() {
  let known, state;
  do { // a state that was read before a click must not hide its point
    known = page.changes;
    state = await ask("state");
  } while (page.changes !== known);
  Object.assign(page.state, { points: state.points, classes: state.classes });
  page.changes = state.changes;
  drawPoints();
  drawPanels();
}

// Controls ------------------------------------------------------------------------------------------

$("undo").onclick = () => undoRedo("undo");
$("redo").onclick = () => undoRedo("redo");
$("previous-image").onclick = () => stepImage(-1);
$("next-image").onclick = () => stepImage(1);
$("image").onchange = () => openImage(Number($("image").value));
$("retry").onclick = saveAgain;
$("close-banner").onclick = () => tell("");
$("next").onclick = nextSuggestion;
$("skip").onclick = () => passOver("skipped");
$("unsure").onclick = () => passOver("unsure");
$("wrong").onclick = nextDoubt;
$("open-help").onclick = () => $("help").showModal();
$("opacity").oninput = () => {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  if (overlay) overlay.setOpacity($("opacity").value / 100);
  if (trained) trained.setOpacity($("opacity").value / 100);
};
$("swipes").onchange = $("other").onchange = () => setLayer(page.layer);
$("compare").onclick = () => {
  $("swipes").checked = true;
  $("other").value = "trained";
  setLayer("classes");
};
$("swipe").oninput = clipOverlay;
$("acquisition").onchange = async () => {
  page.suggestions = [];
  await attempt(() => ask("settings", { acquisition: $("acquisition").value }));
};
for (const name of ["export", "map-images", "train"]) {
  $(name).onclick = () => attempt(() => ask(name.replace("-", "_"), {}));
}
for (const radio of document.getElementsByName("tool")) radio.onchange = () => setTool(radio.value);
$("finish").onclick = finishPolygon;
$("back").onclick = takeCornerBack;
$("cancel").onclick = cancelPolygon;
$("brush").oninput = () => { $("brush-value").textContent = `${$("brush").value} px`; };
for (const radio of document.getElementsByName("layer")) radio.onchange = () => setLayer(radio.value);

function setLayer(layer) {
  page.layer = layer;
  for (const radio of document.getElementsByName("layer")) radio.checked = radio.value === layer;
  $("ramp").hidden = layer !== "confidence";
  const isSwiped = $("swipes").checked;
  $("swipe").hidden = $("other").disabled = !isSwiped;
  $("other").options[1].disabled = layer === "classes" || layer === "confidence";
  $("other").options[2].disabled = layer === "trained" || !page.status.trained;
  if ($("other").selectedOptions[0].disabled) $("other").value = "none";
  drawStatus();
  clipOverlay();
}

function nextLayer() {
  const layers = ["classes", "confidence", ...(page.status.trained ? ["trained"] : []), "none"];
  return layers[(layers.indexOf(page.layer) + 1) % layers.length];
}

function stepImage(step) {
  const count = page.state.images.length;
  openImage((page.image + step + count) % count);
}

function isTyping(target) {
  return target instanceof HTMLElement && (target.matches("textarea, select, dialog *") ||
    (target.matches("input") && !["radio", "checkbox", "range", "color"].includes(target.type)));
}

document.addEventListener("keydown", (event) => {
  if (!page.state || isTyping(event.target)) return;
  const key = event.key.toLowerCase();
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && key === "z") {
    event.preventDefault();
    undoRedo(event.shiftKey ? "redo" : "undo");
  } else if (isCommand && key === "y") {
    event.preventDefault();
    undoRedo("redo");
  } else if (isCommand || event.altKey) {
    return;
  } else if (key >= "1" && key <= "9" && key.length === 1) pickClass(Number(key) - 1);
  else if (key === "backspace" && sketch) takeCornerBack();
  else if ((key === "delete" || key === "backspace") && page.chosen) removePoint(page.chosen);
  else if (key === "enter" && event.target === map.getContainer()) {
    if (page.tool === "polygon") addCorner(toPlace(map.getCenter()));
    else addPoint(page.suggestion || toPlace(map.getCenter()));
  } else if (key === "escape") {
    if (sketch) cancelPolygon();
    else setTool("point");
  } else if (key === "p") setTool("polygon");
  else if (key === "b") setTool("brush");
  else if (key === "f") finishPolygon();
  else if (key === "n") nextSuggestion();
  else if (key === "s") passOver("skipped");
  else if (key === "u") passOver("unsure");
  else if (key === "w") nextDoubt();
  else if (key === "m") setLayer(nextLayer());
  else if (key === "[") stepImage(-1);
  else if (key === "]") stepImage(1);
  else if (key === "?") $("help").showModal();
});

window.addEventListener("beforeunload", (event) => {
  if (page.pending.length) event.preventDefault();
});
window.addEventListener("resize", () => map.invalidateSize());

async function open() {
  try {
    page.state = await ask("state");
  } catch (error) {
    tell(error.message);
    return;
  }
  page.status = page.state;
  page.session = page.state.session;
  page.changes = page.state.changes;
  $("project").textContent = page.state.project;
  document.title = `${page.state.project} – pointcover label`;
  $("image").replaceChildren(...page.state.images.map((one, number) => element("option", { value: String(number), textContent: one.name })));
  $("acquisition").value = page.state.settings.acquisition;
  $("new-colour").value = page.state.free_colour.toLowerCase();
  openImage(0);
  drawStatus();
  document.body.dataset.ready = "1";
  follow();
}

open();
