// What the two pages of `pointcover label` share. All text from files or people is set as text, never as HTML.
"use strict";

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function swatch(colour) {
  const made = element("span", { className: "swatch" });
  made.style.backgroundColor = colour;
  return made;
}

export function tell(text, offersRetry = false) {
  $("banner").hidden = !text;
  $("banner-text").textContent = text;
  $("retry").hidden = !offersRetry;
}

// Requests ------------------------------------------------------------------------------------------

export class Refused extends Error {
  constructor(text, isFull = false, isLost = false) {
    super(text);
    Object.assign(this, { isFull, isLost });
  }
}

// Sends a request, and returns what the server answered. `session` is the id of its start that this tab knows, and
// `Conflict` the error where that is of another project.
export async function send(path, values, session, Conflict = Refused) {
  const options = values === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Pointcover": "1", "X-Pointcover-Session": session },
    body: JSON.stringify(values),
  };
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch {
    throw new Refused("The server does not answer: is `pointcover label` still running?", false, true);
  }
  if (answer.status === 401) {
    throw new Refused("The server was started again, and wants the token of its new address: open the address that " +
      "`pointcover label` printed in another tab of this browser. Then this tab goes on.");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
    const error = new (answer.status === 409 ? Conflict : Refused)(said.error, said.is_full);
    error.isRefused = answer.status === 400; // the same request will never be taken
    throw error;
  }
  return answer.json();
}

// The image -----------------------------------------------------------------------------------------

export const toLatLng = (x, y) => L.latLng(-y, x);

export const boundsOf = (image) => L.latLngBounds(toLatLng(0, image.height), toLatLng(image.width, 0));

const Tiles = L.TileLayer.extend({
  getTileUrl(place) {
    const address = this.options.address(); // of tiles: the session may change
    return `api/${address}/${Math.abs(place.z)}/${place.y}/${place.x}`;
  },
});

// Tiles of an image of a size, or of a map of it, at levels of half the resolution each.
export function tilesOf(image, address, options) {
  return new Tiles("", { address, bounds: boundsOf(image), maxNativeZoom: 0, minNativeZoom: -(image.levels - 1), noWrap: true, ...options });
}
