// Sample: a grid of new images by seed, temperature, sharpness, prior and label.
import { nameOf } from "./api.js";
import { pngUrl, save } from "./images.js";
import { announcer, at, make } from "./page.js";

/** @param {import("./main.js").App} app */
export function startSample(app) {
  const form = at("sample-form");
  const place = at("samples");
  const say = announcer(at("sample-status"));
  /** @type {import("./api.js").Ask | undefined} */ let ask;

  const draw = app.client.latest(async () => {
    await app.notice.guard(async () => {
      ask = { path: "sample", json: wanted() };
      const { images, z, seed } = await app.client.json(ask);
      place.style.setProperty("--columns", String(Math.ceil(Math.sqrt(images.length))));
      place.replaceChildren(
        ...images.map((/** @type {string} */ image, /** @type {number} */ index) => {
          const button = make(
            "button",
            { type: "button" },
            make("img", { src: pngUrl(image), alt: `Sample ${index + 1}: bend it` }),
          );
          button.addEventListener("click", () => app.bend(z[index]));
          return button;
        }),
      );
      allow(true);
      say(`${images.length} images of seed ${seed}.`);
    });
  });

  /** @param {boolean} ready */
  function allow(ready) {
    for (const id of ["sample-save", "sample-request"]) at(id).disabled = !ready;
  }

  /** Labels have a part of the aggregate prior each; the normal one has none. */
  function limit() {
    const { prior, label } = form.elements;
    label.disabled = prior.value !== "aggregate" || !app.model.labels.length;
    if (label.disabled) label.value = "";
  }

  function wanted() {
    const { n, seed, temperature, sharpness, prior, label } = form.elements;
    return {
      n: Number(n.value),
      seed: Number(seed.value),
      temperature: Number(temperature.value),
      sharpness: Number(sharpness.value),
      prior: prior.value,
      ...(label.value && { label: Number(label.value) }),
      model: app.model.id,
    };
  }

  function showNumbers() {
    at("warmth").textContent = Number(form.elements.temperature.value).toFixed(2);
    at("contrast").textContent = Number(form.elements.sharpness.value).toFixed(2);
  }

  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    draw(undefined);
  });
  form.addEventListener("input", () => {
    showNumbers();
    limit();
    if (form.checkValidity()) draw(undefined);
  });
  at("sample-next").addEventListener("click", () => {
    form.elements.seed.value = Number(form.elements.seed.value) + 1;
    draw(undefined);
  });
  at("sample-save").addEventListener("click", () =>
    app.notice.guard(async () => {
      const { json } = /** @type {any} */ (ask);
      save(
        await app.client.blob({ path: "sample", json, accept: "image/png" }),
        `${app.model.name}-seed-${json.seed}.png`,
      );
    }),
  );
  at("sample-request").addEventListener("click", () => ask && app.request({ ...ask, accept: "image/png" }));

  return {
    model() {
      const { priors, labels, temperature, sharpness } = app.model;
      form.elements.temperature.value = temperature;
      form.elements.sharpness.value = sharpness;
      showNumbers();
      form.elements.prior.replaceChildren(
        ...priors.map((prior) => make("option", { selected: prior === priors.at(-1) }, prior)),
      );
      form.elements.label.replaceChildren(
        make("option", { value: "" }, "any"),
        ...labels.map((label) => make("option", { value: label }, nameOf(app.model, label))),
      );
      limit();
      ask = undefined;
      place.replaceChildren();
      allow(false);
    },
    refresh() {
      if (!ask) draw(undefined);
    },
  };
}
