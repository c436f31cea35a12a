// A slider for each latent, the busiest first.
import { make } from "./page.js";

const FIRST = 24; // so many are shown at once; the others when they are asked for
const SPREAD = 3.5; // standard deviations to both sides of the mean
const STEP = 0.05;

/** Fires "slide" while a slider moves, and "settle" when it has been let go. */
export class Sliders extends EventTarget {
  /** @type {Map<number, {input: any, output: any}>} */ #rows = new Map();
  /** @type {number[]} */ #z = [];

  /** @param {HTMLElement} place @param {HTMLButtonElement} all shows the others */
  constructor(place, all) {
    super();
    this.place = place;
    this.all = all;
    all.addEventListener("click", () => {
      for (const row of /** @type {any} */ (place.children)) row.hidden = false;
      all.hidden = true;
    });
  }

  /** New sliders for a model, all at the mean of its test set. @param {import("./api.js").Model} model */
  shape({ latent_dim, latents }) {
    const known = latents.length
      ? latents
      : Array.from({ length: latent_dim }, (_, index) => ({ index, rate: NaN, mu_mean: 0, mu_std: 1 }));
    this.#z = Array(latent_dim).fill(0);
    this.#rows.clear();
    this.place.replaceChildren(...known.map((use, place) => this.#row(use, place)));
    this.all.hidden = latent_dim <= FIRST;
    this.all.textContent = `Show all ${latent_dim}`;
  }

  /** The latent that the sliders stand for. */
  get z() {
    return [...this.#z];
  }

  set z(z) {
    this.#z = [...z];
    for (const [latent, { input, output }] of this.#rows) {
      input.min = Math.min(input.min, z[latent]);
      input.max = Math.max(input.max, z[latent]);
      input.value = z[latent];
      output.textContent = z[latent].toFixed(2);
    }
  }

  /** The ends of a slider. @param {number} latent */
  range(latent) {
    const input = this.#rows.get(latent)?.input;
    return { low: Number(Number(input.min).toFixed(2)), high: Number(Number(input.max).toFixed(2)) };
  }

  /** @param {{index: number, rate: number, mu_mean: number, mu_std: number}} use @param {number} place */
  #row({ index, rate, mu_mean, mu_std }, place) {
    const reach = SPREAD * (mu_std || 1);
    const ends = [mu_mean - reach, mu_mean + reach].map((end) => Math.round(end / STEP) * STEP);
    const input = make("input", { type: "range", min: ends[0], max: ends[1], step: STEP, value: mu_mean });
    input.setAttribute("aria-label", `Latent z${index}`);
    const output = make("output", {}, mu_mean.toFixed(2));
    this.#z[index] = mu_mean;
    this.#rows.set(index, { input, output });
    input.addEventListener("input", () => {
      this.#z[index] = Number(input.value);
      output.textContent = this.#z[index].toFixed(2);
      this.dispatchEvent(new CustomEvent("slide", { detail: { latent: index, value: this.#z[index] } }));
    });
    input.addEventListener("change", () =>
      this.dispatchEvent(new CustomEvent("settle", { detail: { latent: index } })),
    );
    const title = Number.isNaN(rate) ? "" : `Says ${rate.toFixed(2)} nats of an image, on average`;
    return make(
      "label",
      { className: "slider", title, hidden: place >= FIRST },
      make("span", {}, `z${index}`),
      input,
      output,
    );
  }
}
