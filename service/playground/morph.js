// Morph: the walk between two latents, all of it at once; the scrubber then only chooses what is shown.
import { clear, show } from "./images.js";
import { announcer, at } from "./page.js";
import { Player } from "./player.js";

const STEPS = 49;

/** @param {import("./main.js").App} app */
export function startMorph(app) {
  const say = announcer(at("morph-status"));
  const scrub = at("scrub");
  /** @type {(number[] | undefined)[]} */ let ends = [undefined, undefined];
  /** @type {import("./images.js").Pixels[]} */ let frames = [];
  /** @type {import("./api.js").Ask | undefined} */ let ask;
  const player = new Player(at("play"), scrub);

  const walk = app.client.latest(async () => {
    await app.notice.guard(async () => {
      const found = await Promise.all(ends.map((end, index) => end ?? random(index)));
      ends = ends.map((end, index) => end ?? found[index]);
      const path = /** @type {any} */ (document.querySelector("[name=path]:checked")).value;
      ask = { path: "interpolate", json: { z: ends, steps: STEPS, path, model: app.model.id } };
      frames = await app.client.images(ask);
      show(at("end-a"), frames[0]);
      show(at("end-b"), frames[STEPS - 1]);
      at("morph-request").disabled = false;
      step();
    });
  });

  /** A latent from the prior; at first of two different labels, where there are labels. @param {number} [place] */
  async function random(place) {
    const { labels, id } = app.model;
    const label =
      place === undefined || !labels.length ? {} : { label: labels[(3 + 4 * place) % labels.length], seed: 1 };
    return (await app.client.json({ path: "sample", json: { n: 1, ...label, model: id } })).z[0];
  }

  function step() {
    const place = Number(scrub.value);
    if (frames[place]) show(at("between"), frames[place]);
    const percent = Math.round((100 * place) / (STEPS - 1));
    scrub.setAttribute("aria-valuetext", `${percent} % of the way`);
    at("between").setAttribute("aria-label", `Between: ${percent} % of the way from the first to the second`);
  }

  /** @param {number} place @param {number[] | undefined} z */
  function put(place, z) {
    if (!z) return;
    ends[place] = z;
    walk(undefined);
  }

  scrub.addEventListener("input", step);
  ["a", "b"].forEach((name, place) => {
    at(`new-${name}`).addEventListener("click", () =>
      app.notice.guard(async () => {
        put(place, await random());
        say(`There is a new ${place ? "second" : "first"} image.`);
      }),
    );
    at(`drawn-${name}`).addEventListener("click", () => put(place, app.drawn()));
  });
  for (const radio of document.querySelectorAll("[name=path]")) radio.addEventListener("change", () => walk(undefined));
  at("morph-bend").addEventListener("click", () =>
    app.notice.guard(async () => {
      if (ask) app.bend((await app.client.json(ask)).z[Number(scrub.value)]);
    }),
  );
  at("morph-request").addEventListener("click", () => ask && app.request({ ...ask, accept: "image/png" }));

  return {
    /** @param {number[]} z */
    take(z) {
      ends[0] = z;
    },
    model() {
      ends = [undefined, undefined];
      frames = [];
      ask = undefined;
      at("morph-request").disabled = true;
      for (const id of ["end-a", "between", "end-b"]) clear(at(id), app.model);
      player.stop();
    },
    refresh() {
      walk(undefined);
    },
  };
}
