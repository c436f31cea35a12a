// Map: test latents in a plane. Hover shows a test image from its latent, a click decodes the place, a path is played.
import { nameOf } from "./api.js";
import { clear, show } from "./images.js";
import { announcer, at, calm, make } from "./page.js";
import { evenly, Plane } from "./plane.js";
import { Player } from "./player.js";
import { colourOf, Sky } from "./sky.js";

const FILE = "map.json";
const FRAMES = 60; // of a path
const NEAR = 14; // pixels between the pointer and a point that it means
const DRAG = 6; // pixels from which on a press is a path
const KEY_STEPS = 60; // arrow keys to cross the map

/** @typedef {import("./sky.js").Place} Place */

/** @param {import("./main.js").App} app */
export function startMap(app) {
  const canvas = at("plane");
  const along = at("along");
  const say = announcer(at("map-status"));
  const sky = new Sky(canvas);
  const player = new Player(at("map-play"), along);
  const lead = at("map-lead").textContent;
  /** @type {Plane | undefined} */ let plane;
  let asked = "";
  /** @type {number[] | undefined} */ let z;
  /** @type {import("./api.js").Ask} */ let ask;
  /** @type {Place | undefined} */ let cursor;
  /** @type {Place | undefined} */ let pressed;
  /** @type {Place[] | undefined} */ let path;
  let drawing = false;
  /** @type {Place[]} */ let places = [];
  /** @type {import("./images.js").Pixels[]} */ let frames = [];

  const decode = app.client.latest(async (/** @type {{latent: number[], caption: string}} */ { latent, caption }) => {
    await app.notice.guard(async () => {
      ask = { path: "decode", json: { z: [latent], model: app.model.id } };
      const [image] = await app.client.images(ask);
      show(at("there"), image);
      z = latent;
      tell(caption);
      for (const id of ["map-bend", "map-request"]) at(id).disabled = false;
    });
  });

  const playPath = app.client.latest(async (/** @type {Place[]} */ drawn) => {
    await app.notice.guard(async () => {
      const known = plane;
      if (!known) return;
      const wanted = evenly(drawn, FRAMES);
      ask = { path: "decode", json: { z: wanted.map((place) => known.latent(...place)), model: app.model.id } };
      frames = await app.client.images(ask);
      places = wanted;
      Object.assign(along, { max: FRAMES - 1, value: 0, disabled: false });
      for (const id of ["map-play", "map-bend", "map-request"]) at(id).disabled = false;
      step();
      if (!calm()) player.start();
    });
  });

  function step() {
    if (!plane) return;
    const place = places[Number(along.value)];
    show(at("there"), frames[Number(along.value)]);
    z = plane.latent(...place);
    along.setAttribute("aria-valuetext", `${Math.round((100 * Number(along.value)) / (FRAMES - 1))} % of the path`);
    tell("Along the path.");
    sky.draw({ path, along: place });
  }

  /** @param {string} caption */
  function tell(caption) {
    at("map-caption").textContent = caption;
    at("there").setAttribute("aria-label", caption);
    say(caption);
  }

  /** Decode a test image's latent. @param {import("./plane.js").Point} point */
  function decodePoint({ z: latent, label }) {
    decode({ latent, caption: `A test image of label ${nameOf(app.model, label)}, from its latent.` });
  }

  /** Show the test image that a place is near to, if any. @param {Place} place */
  function hover(place) {
    if (!plane) return;
    const { point, distance } = plane.nearest(...place);
    const near = distance < sky.distance(NEAR);
    sky.draw({ cursor, path, chosen: near ? point : undefined });
    if (near) decodePoint(point);
  }

  /** Decode a place. @param {Place} place */
  function visit(place) {
    if (!plane) return;
    path = undefined;
    drawing = false;
    sky.draw({ cursor, along: place });
    decode({
      latent: plane.latent(...place),
      caption: `The place ${place.map((value) => value.toFixed(2)).join(", ")}.`,
    });
  }

  /** @param {Place[] | undefined} drawn */
  function finish(drawn) {
    drawing = false;
    if (drawn && drawn.length > 1) playPath(drawn);
  }

  canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button !== 0 || !plane) return;
    canvas.setPointerCapture(event.pointerId);
    player.stop();
    cursor = undefined;
    drawing = false;
    pressed = sky.at(event);
    path = [pressed];
  });
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const place = sky.at(event);
    if (!pressed || !path) {
      if (!player.playing) hover(place);
      return;
    }
    path.push(place);
    sky.draw({ path });
  });
  canvas.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
    if (!pressed) return;
    const [x, y] = sky.at(event);
    const dragged = Math.hypot(x - pressed[0], y - pressed[1]) > sky.distance(DRAG) || (path?.length ?? 0) > FRAMES;
    pressed = undefined;
    if (dragged) finish(path);
    else visit([x, y]);
  });
  canvas.addEventListener("pointercancel", () => {
    pressed = path = undefined;
  });
  canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (key(event.key)) event.preventDefault();
  });
  canvas.addEventListener("blur", () => {
    cursor = undefined;
    sky.draw({ path });
  });

  /** @param {string} name @returns {boolean} whether it is a key of the map */
  function key(name) {
    if (!plane) return false;
    const { left, right, bottom, top } = plane.bounds;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const move = moves[/** @type {keyof typeof moves} */ (name)];
    if (!move && !["Enter", " ", "Escape"].includes(name)) return false;
    player.stop();
    cursor ??= [(left + right) / 2, (bottom + top) / 2];
    if (move) {
      cursor = [cursor[0] + (move[0] * (right - left)) / KEY_STEPS, cursor[1] + (move[1] * (top - bottom)) / KEY_STEPS];
      if (drawing) path?.push(cursor);
      hover(cursor);
    } else if (name === "Enter") {
      visit(cursor);
    } else if (name === "Escape") {
      path = undefined;
      drawing = false;
      sky.draw({ cursor });
    } else if (drawing) {
      finish(path);
    } else {
      drawing = true;
      path = [cursor];
      tell("A path begins.");
    }
    return true;
  }

  async function load() {
    const model = app.model;
    if (asked === model.id) return;
    asked = model.id;
    if (!(FILE in model.files)) {
      at("map-lead").textContent =
        `${model.id} has no map. An export writes one, and python -m training statistics adds one.`;
      return;
    }
    const map = await app.notice.guard(() =>
      app.client.json({ path: `models/${model.id}/files/${FILE}`, accept: "*/*" }),
    );
    if (app.model !== model) return;
    if (!map) {
      asked = "";
      return;
    }
    plane = new Plane(map);
    sky.shape(plane, (label) => nameOf(model, label));
    at("legend").replaceChildren(
      ...plane.middles().map(({ label }) => {
        const dot = make("i");
        dot.style.background = colourOf(label);
        return make("span", {}, dot, nameOf(model, label));
      }),
    );
    decodePoint(plane.points[0]);
  }

  along.addEventListener("input", step);
  at("map-bend").addEventListener("click", () => z && app.bend(z));
  at("map-request").addEventListener("click", () => app.request({ ...ask, accept: "image/png" }));

  return {
    model() {
      player.stop();
      asked = "";
      drawing = false;
      plane = path = cursor = pressed = undefined;
      at("map-lead").textContent = lead;
      at("legend").replaceChildren();
      for (const id of ["along", "map-play", "map-bend", "map-request"]) at(id).disabled = true;
      clear(at("there"), app.model);
      sky.shape(undefined, String);
    },
    refresh() {
      load();
    },
  };
}
