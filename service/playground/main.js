// The playground: one model, five things to do with it. Each tab is a module with `model`, called when another model is
// chosen, and `refresh`, called when the tab is opened or the service is back.
import { startAbout } from "./about.js";
import { Client, latest, Problem } from "./api.js";
import { startBend } from "./bend.js";
import { startDraw } from "./draw.js";
import { startKey } from "./key.js";
import { startMap } from "./map.js";
import { startMorph } from "./morph.js";
import { Notice } from "./notice.js";
import { at, make } from "./page.js";
import { startRequests } from "./request.js";
import { startSample } from "./sample.js";
import { startStrip } from "./strip.js";
import { startTabs } from "./tabs.js";

/**
 * What the tabs share.
 * @typedef {object} App
 * @property {Client} client
 * @property {Notice} notice
 * @property {import("./api.js").Model} model
 * @property {(ask: import("./api.js").Ask) => void} request opens the dialog with a request
 * @property {(z: number[]) => void} bend opens Bend with a latent
 * @property {(z: number[]) => void} morph opens Morph with a latent as its first
 * @property {() => number[] | undefined} drawn the latent of what is drawn
 */

const client = new Client();
const askForKey = startKey(client, () => load());
const notice = new Notice(client, back, askForKey);

/** @type {App} */
const app = {
  client,
  notice,
  model: /** @type {any} */ (undefined),
  request: startRequests(client),
  bend: (z) => {
    tabs.bend.take(z);
    open("bend");
  },
  morph: (z) => {
    tabs.morph.take(z);
    open("morph");
  },
  drawn: () => tabs.draw.mu,
};

const tabs = {
  draw: startDraw(app),
  bend: startBend(app),
  sample: startSample(app),
  morph: startMorph(app),
  map: startMap(app),
};
/** @type {keyof typeof tabs} */
let current;

at("main").inert = true; // until there is a model
startStrip(client);
startAbout(app);
const open = startTabs((name) => {
  current = /** @type {keyof typeof tabs} */ (name);
  refresh();
});

function refresh() {
  if (app.model) tabs[current].refresh();
}

/** The service is back: catch up on what was missed. */
function back() {
  const name = at("models").value;
  if (!app.model) load();
  else if (name !== app.model.id) use(name);
  else refresh();
}

/** Use a model, by its id. If there is none, the one before stays. */
const use = latest(async (/** @type {string} */ id) => {
  await notice.guard(async () => {
    try {
      app.model = await client.json({ path: `models/${encodeURIComponent(id)}` });
    } catch (error) {
      if (error instanceof Problem && app.model) at("models").value = app.model.id;
      throw error;
    }
    client.turn();
    at("models").value = app.model.id;
    const [height, width] = app.model.image_shape;
    at("main").style.setProperty("--shape", `${width} / ${height}`);
    at("main").inert = false;
    for (const tab of Object.values(tabs)) tab.model();
    at("main").dataset.model = app.model.id;
    refresh();
  });
});

/** Ask what is served, and use the default model, or the one that the address names. */
async function load() {
  const id = await notice.guard(async () => {
    const { default: usual, models } = await client.json({ path: "models?view=short" });
    /** @type {string[]} */
    const ids = models.map((/** @type {any} */ model) => model.id);
    const asked = find(ids, new URLSearchParams(location.search).get("model")) ?? find(ids, usual);
    at("models").replaceChildren(...ids.map((id) => make("option", { selected: id === asked }, id)));
    return at("models").value;
  });
  if (id) await use(id);
}

/** The model of a name, in its highest version, or of an id. @param {string[]} ids @param {string | null} name */
function find(ids, name) {
  const version = (/** @type {string} */ id) => Number(id.split("@")[1]);
  return ids
    .filter((id) => id === name || id.split("@")[0] === name)
    .sort((a, b) => version(a) - version(b))
    .at(-1);
}

at("models").addEventListener("change", () => use(at("models").value));
load();
