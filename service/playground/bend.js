// Bend: a slider for each latent, and the image that the decoder makes of them.
import { clear, show } from "./images.js";
import { announcer, at, copy, flash } from "./page.js";
import { Sliders } from "./sliders.js";

const WALK_STEPS = 9;

/** @param {import("./main.js").App} app */
export function startBend(app) {
  const say = announcer(at("bend-status"));
  const sliders = new Sliders(at("sliders"), at("sliders-all"));
  /** @type {number[] | undefined} */ let start;
  /** @type {import("./api.js").Ask} */ let ask;
  let walk = "";
  const caption = at("traverse-caption").textContent;

  const decode = app.client.latest(async () => {
    await app.notice.guard(async () => {
      ask = { path: "decode", json: { z: [sliders.z], model: app.model.id } };
      const [image] = await app.client.images(ask);
      show(at("bent"), image);
      at("bend-request").disabled = false;
    });
  });

  const traverse = app.client.latest(async (/** @type {number} */ latent) => {
    await app.notice.guard(async () => {
      const { low, high } = sliders.range(latent);
      const json = { z: [sliders.z], dims: [latent], range: [low, high], steps: WALK_STEPS, model: app.model.id };
      const picture = await app.client.blob({ path: "traverse", json, accept: "image/png" });
      URL.revokeObjectURL(walk);
      walk = URL.createObjectURL(picture);
      Object.assign(at("traverse"), { src: walk, hidden: false, alt: `Latent ${latent} from ${low} to ${high}` });
      at("traverse-caption").textContent = `Latent ${latent} from ${low} to ${high}, the others as they are.`;
    });
  });

  /** @param {number[]} z */
  function take(z) {
    start = z;
    sliders.z = z;
  }

  async function random() {
    await app.notice.guard(async () => {
      const { z } = await app.client.json({ path: "sample", json: { n: 1, model: app.model.id } });
      take(z[0]);
      decode(undefined);
    });
  }

  sliders.addEventListener("slide", (event) => {
    const { latent, value } = /** @type {CustomEvent} */ (event).detail;
    decode(undefined);
    say(`Latent ${latent} is ${value.toFixed(2)}.`);
  });
  sliders.addEventListener("settle", (event) => traverse(/** @type {CustomEvent} */ (event).detail.latent));
  at("bend-reset").addEventListener("click", () => {
    if (!start) return;
    take(start);
    decode(undefined);
  });
  at("bend-random").addEventListener("click", random);
  at("bend-copy").addEventListener("click", () => {
    copy(JSON.stringify({ model: app.model.id, z: [sliders.z] })).then(
      () => flash(at("bend-copy"), "Copied"),
      () => app.request(ask), // no clipboard here: the dialog has the same text
    );
  });
  at("bend-request").addEventListener("click", () => app.request({ ...ask, accept: "image/png" }));

  return {
    take,
    model() {
      start = undefined;
      clear(at("bent"), app.model);
      at("bend-request").disabled = true;
      const [height, width] = app.model.image_shape;
      at("traverse").hidden = true;
      at("traverse-caption").textContent = caption;
      at("panel-bend").style.setProperty("--strip", String((WALK_STEPS * width) / height));
      sliders.shape(app.model);
    },
    refresh() {
      if (start) decode(undefined);
      else random();
    },
  };
}
