// Draw: a picture, what the model sees and makes of it, and what it says of it. Live while the pen moves.
import { clearBars, showBars } from "./bars.js";
import { clear, decodePng, showPng } from "./images.js";
import { announcer, at } from "./page.js";
import { Pen } from "./pen.js";
import { startSources } from "./sources.js";

const STRANGE = 0.01; // docs/score.md: one real image in a hundred is below

/** @param {import("./main.js").App} app */
export function startDraw(app) {
  const pen = new Pen(at("pad"));
  const say = announcer(at("draw-status"));
  const verdict = at("verdict").textContent;
  const results = /** @type {HTMLElement} */ (document.querySelector(".seen"));
  let working = 0;
  /** @type {import("./api.js").Ask} */ let ask;
  /** @type {number[] | undefined} */ let mu;

  const update = app.client.latest(async () => {
    if (pen.empty) {
      blank();
      say("The pad is empty.");
      return;
    }
    await app.notice.guard(async () => {
      const changed = pen.changed;
      const options = new URLSearchParams({ model: app.model.id, preprocess: at("preprocess").value, preview: "true" });
      ask = { path: `reconstruct?${options}`, picture: pen.file };
      const answer = await app.client.json(ask);
      const pngs = await app.client.fresh(Promise.all([answer.preview[0], answer.images[0]].map(decodePng)));
      if (pen.empty) return;
      ["seen", "again"].forEach((id, index) => showPng(at(id), pngs[index]));
      showBars(at("bars"), answer.mu[0], answer.logvar[0]);
      performance.clearMeasures("stroke");
      performance.measure("stroke", { start: changed });
      mu = answer.mu[0];
      pen.found = answer.found?.[0]?.box;
      allow(true);
      if (app.model.latents.length) {
        track(score(answer.preview[0]));
      } else {
        at("verdict").textContent = "This model has no statistics of its test set, which these numbers need.";
        say("The reconstruction is shown.");
      }
    });
  });

  // The next reconstruction does not wait for it.
  const score = app.client.latest(async (/** @type {string} a PNG in base64 */ seen) => {
    await app.notice.guard(async () => {
      const json = { images: [seen], model: app.model.id, preprocess: "none" };
      const found = await app.client.json({ path: "score", json });
      if (!pen.empty) tell(found);
    });
  });

  /** @param {{distortion: number[], rate: number[], typicality: number[]}} found */
  function tell(found) {
    const [distortion, rate] = [found.distortion[0].toFixed(1), found.rate[0].toFixed(1)];
    const typicality = found.typicality[0];
    at("distortion").textContent = distortion;
    at("rate").textContent = rate;
    at("typicality").textContent = typicality.toFixed(typicality < STRANGE ? 4 : 2);
    at("typical").value = typicality;
    at("verdict").textContent =
      typicality < STRANGE
        ? "Fewer than one test image in a hundred is less likely than this picture."
        : `${Math.round(100 * typicality)} of 100 test images are less likely than this picture.`;
    say(`Distortion ${distortion}, rate ${rate}, typicality ${typicality.toFixed(2)}.`);
  }

  function blank() {
    for (const id of ["seen", "again"]) clear(at(id), app.model);
    for (const id of ["distortion", "rate", "typicality"]) at(id).textContent = "–";
    at("typical").value = 0;
    at("verdict").textContent = verdict;
    clearBars(at("bars"));
    mu = undefined;
    allow(false);
  }

  /** Say that the results are not those of the pad yet. @param {Promise<void>} work */
  async function track(work) {
    working += 1;
    results.ariaBusy = "true";
    await work;
    working -= 1;
    results.ariaBusy = String(working > 0);
  }

  /** @param {boolean} ready */
  function allow(ready) {
    for (const id of ["draw-bend", "draw-morph", "draw-request", "drawn-a", "drawn-b"]) at(id).disabled = !ready;
    at("seen").setAttribute("aria-label", `What the model sees: ${ready ? "the picture in its size" : "nothing yet"}`);
    at("again").setAttribute("aria-label", `Reconstruction: ${ready ? "the picture from its latents" : "nothing yet"}`);
  }

  pen.addEventListener("draw", () => {
    for (const id of ["undo", "clear"]) at(id).disabled = pen.empty;
    if (app.model) track(update(undefined)); // else it is done when there is a model
  });
  pen.addEventListener("pen", () => {
    say(pen.down ? "Pen down." : "Pen up.", 0);
  });
  startSources((picture) => pen.put(picture));
  at("undo").addEventListener("click", () => pen.undo());
  at("clear").addEventListener("click", () => {
    pen.clear();
    at("pad").focus();
  });
  at("colour").addEventListener("input", () => {
    pen.colour = at("colour").value;
  });
  at("preprocess").addEventListener("change", () => track(update(undefined)));
  at("draw-bend").addEventListener("click", () => mu && app.bend(mu));
  at("draw-morph").addEventListener("click", () => mu && app.morph(mu));
  at("draw-request").addEventListener("click", () => app.request(ask));

  return {
    /** The latent of what is drawn. */
    get mu() {
      return mu;
    },
    model() {
      pen.shape(app.model);
      at("colour").value = pen.colour;
      at("colour-field").hidden = app.model.image_shape.length < 3;
      blank();
    },
    refresh() {
      track(update(undefined));
    },
  };
}
