// About the model: its contract, and the figures of its card, from the same model.json.
import { at, make } from "./page.js";

/** @param {import("./main.js").App} app */
export function startAbout(app) {
  at("about-open").addEventListener("click", () => {
    if (!app.model) return;
    const { id, dataset, image_shape: shape, latent_dim, objective, provider, metrics, card } = app.model;
    const [height, width, channels] = shape;
    at("about-title").textContent = id;
    list(at("about-facts"), {
      "Data set": dataset,
      Images: `${width}x${height}${channels ? ", colour" : ", grey"}`,
      Latents: latent_dim,
      Objective: objective,
      "Runs on": provider.replace("ExecutionProvider", ""),
    });
    list(at("about-metrics"), metrics);
    at("about-card").textContent = card;
    at("about").showModal();
  });
}

/** @param {HTMLElement} place @param {Record<string, string | number>} facts */
function list(place, facts) {
  const lines = Object.entries(facts);
  place.replaceChildren(
    ...lines.map(([name, value]) =>
      make("div", {}, make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, String(value))),
    ),
  );
}
