// Sample: a grid of new images by seed, temperature, sharpness, prior and label.
import { latest, nameOf } from "./api.js";
import { pngUrl, save } from "./images.js";
import { announcer, at, make } from "./page.js";

/** @param {import("./main.js").App} app */
export function startSample(app) {
  const form = at("sample-form");
  const place = at("samples");
  const say = announcer(at("sample-status"));
  /** @type {import("./api.js").Ask | undefined} */ let ask;

  const draw = latest(async () => {
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
      for (const id of ["sample-save", "sample-request"]) at(id).disabled = false;
      say(`${images.length} images of seed ${seed}.`);
    });
  });

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
    // Labels have a part of the aggregate prior each; the normal one has none.
    form.elements.label.disabled = form.elements.prior.value !== "aggregate";
    if (form.elements.label.disabled) form.elements.label.value = "";
    if (form.checkValidity()) draw(undefined);
  });
  at("sample-next").addEventListener("click", () => {
    form.elements.seed.value = Number(form.elements.seed.value) + 1;
    draw(undefined);
  });
  at("sample-save").addEventListener("click", () =>
    app.notice.guard(async () => {
      const { json } = /** @type {any} */ (ask);
      const answer = await app.client.send({ path: "sample", json, accept: "image/png" });
      save(await answer.blob(), `${app.model.name}-seed-${json.seed}.png`);
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
      form.elements.label.disabled = labels.length === 0;
      ask = undefined;
    },
    refresh() {
      if (!ask) draw(undefined);
    },
  };
}
