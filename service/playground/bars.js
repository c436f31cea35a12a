// The latents of an image as bars: mu up or down, and one standard deviation to both sides of it.
import { make } from "./page.js";

const MOST = 3.5; // what is beyond is cut off
const MANY = 40; // of so many bars none has its number below

/** @param {HTMLElement} place @param {number[]} mu @param {number[]} logvar */
export function showBars(place, mu, logvar) {
  if (place.childElementCount !== mu.length) {
    place.replaceChildren(...mu.map((_, index) => make("div", { className: "bar" }, make("span", {}, String(index)))));
    place.classList.toggle("many", mu.length > MANY);
  }
  const stds = logvar.map((value) => Math.exp(value / 2));
  const bars = /** @type {HTMLCollectionOf<HTMLElement>} */ (place.children);
  mu.forEach((value, index) => {
    const bar = bars[index];
    bar.style.setProperty("--mu", String(Math.min(Math.max(value, -MOST), MOST)));
    bar.style.setProperty("--std", String(Math.min(stds[index], MOST)));
    bar.title = `Latent ${index}: ${value.toFixed(2)} ± ${stds[index].toFixed(2)}`;
  });
  place.setAttribute("aria-label", `The latents: ${[...bars].map((bar) => bar.title).join("; ")}`);
}

/** @param {HTMLElement} place */
export function clearBars(place) {
  place.replaceChildren();
  place.setAttribute("aria-label", "The latents: nothing yet");
}
