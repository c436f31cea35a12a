// Calls to the service: requests, answers, and the ways in which one can fail.

/** @typedef {Blob | Uint8Array<ArrayBuffer>} Picture a file, or the bytes of a PNG */

/**
 * What a request asks, as `send` takes it and as the dialog "Request" writes it.
 * @typedef {object} Ask
 * @property {string} path relative to the page, with its query
 * @property {object} [json] the body, or
 * @property {Picture} [picture] the body
 * @property {string} [accept] the media type of the answer; JSON without it
 */

/**
 * A model, as GET /models/{name} describes it; see docs/openapi.json.
 * @typedef {object} Model
 * @property {string} id
 * @property {string} name
 * @property {string} dataset
 * @property {string} objective
 * @property {number[]} image_shape
 * @property {number} background
 * @property {number} latent_dim
 * @property {Record<string, number>} metrics
 * @property {Record<string, string>} files
 * @property {string[]} priors
 * @property {number[]} labels
 * @property {string[]} label_names
 * @property {{index: number, rate: number, mu_mean: number, mu_std: number}[]} latents
 * @property {string} provider
 * @property {string} card
 */

/** The media type of a picture; the service looks at the bytes. @param {Picture} picture */
export function typeOf(picture) {
  return (picture instanceof Blob && picture.type) || "image/png";
}

/** The name of a label. @param {Model} model @param {number} label */
export function nameOf(model, label) {
  return model.label_names[model.labels.indexOf(label)] ?? String(label);
}

/** An error that the service answered: a problem of RFC 9457. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{title?: string, detail?: string, request_id?: string, errors?: {pointer: string, detail: string}[]}} said
   */
  constructor(status, said) {
    super(said.detail ?? "");
    this.status = status;
    this.title = said.title ?? "Error";
    this.requestId = said.request_id ?? "";
    this.errors = said.errors ?? [];
  }
}

/** No answer at all: the service is away. */
export class Away extends Error {}

/** An answer about a model that is not used any more. */
export class Stale extends Error {}

/** Sends requests. Each answer to a POST is an event "answer", so that others can count and time them. */
export class Client extends EventTarget {
  #uses = 0; // models, one after the other

  /** The API key, kept as long as the tab is open. */
  get key() {
    return sessionStorage.getItem("key") ?? "";
  }

  set key(key) {
    sessionStorage.setItem("key", key);
  }

  /**
   * Send a request. Throws Problem, Away or Stale, as all that follow do.
   * @param {Ask} ask
   * @returns {Promise<Response>}
   */
  async send({ path, json, picture, accept = "application/json" }) {
    /** @type {Record<string, string>} */
    const headers = { accept };
    if (json) headers["content-type"] = "application/json";
    if (picture) headers["content-type"] = typeOf(picture);
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    const body = json ? JSON.stringify(json) : picture;
    const begun = performance.now();
    const uses = this.#uses;
    const request = fetch(new URL(path, document.baseURI), { method: body ? "POST" : "GET", headers, body });
    const response = await read(request, "The service does not answer.");
    if (body) this.dispatchEvent(new CustomEvent("answer", { detail: timing(response, performance.now() - begun) }));
    this.#check(uses);
    if (!response.ok) throw new Problem(response.status, await this.fresh(problemOf(response)));
    return response;
  }

  /** From here on another model is used: what was asked before is stale. */
  turn() {
    this.#uses += 1;
  }

  /**
   * Wait for something. Throws Stale if another model is used by then.
   * @template T @param {Promise<T>} work @returns {Promise<T>}
   */
  async fresh(work) {
    const uses = this.#uses;
    const result = await work;
    this.#check(uses);
    return result;
  }

  /**
   * Like `latest`, and a value that still waits when another model is used is dropped.
   * @template Value @param {(value: Value) => Promise<void>} work
   */
  latest(work) {
    return latest(work, () => this.#uses);
  }

  /** @param {number} uses */
  #check(uses) {
    if (uses !== this.#uses) throw new Stale();
  }

  /** The JSON of an answer. @param {Ask} ask @returns {Promise<any>} */
  async json(ask) {
    return this.fresh(read((await this.send(ask)).json()));
  }

  /** The file of an answer. @param {Ask} ask @returns {Promise<Blob>} */
  async blob(ask) {
    return this.fresh(read((await this.send(ask)).blob()));
  }

  /**
   * The images of an answer as arrays. @param {Ask} ask @returns {Promise<import("./images.js").Pixels[]>}
   */
  async images(ask) {
    const response = await this.send({ ...ask, accept: "application/octet-stream" });
    const [count, height, width, channels = 1] = (response.headers.get("x-array-shape") ?? "").split(",").map(Number);
    const bytes = new Uint8Array(await this.fresh(read(response.arrayBuffer())));
    const size = height * width * channels;
    return Array.from({ length: count }, (_, index) => ({
      height,
      width,
      channels,
      bytes: bytes.subarray(index * size, (index + 1) * size),
    }));
  }
}

/**
 * Do `work` for the newest value only: while it is being done, all values but the last are dropped.
 * @template Value
 * @param {(value: Value) => Promise<void>} work
 * @param {() => number} uses what it says when a value comes it also says when the value is used, or the value is dropped
 * @returns {(value: Value) => Promise<void>}
 */
export function latest(work, uses = () => 0) {
  /** @type {{value: Value, use: number} | undefined} */
  let next;
  let busy = false;
  return async (value) => {
    next = { value, use: uses() };
    if (busy) return;
    busy = true;
    try {
      while (next) {
        const { value: newest, use } = next;
        next = undefined;
        if (use === uses()) await work(newest);
      }
    } finally {
      busy = false;
    }
  };
}

/** What may break off. @template T @param {Promise<T>} work @param {string} what then is said @returns {Promise<T>} */
async function read(work, what = "The service's answer broke off.") {
  try {
    return await work;
  } catch (error) {
    throw new Away(what, { cause: error });
  }
}

/** @param {Response} response */
async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { title: response.statusText, detail: "" }; // a proxy's answer
  }
}

/**
 * What Server-Timing says, and the whole way there and back, in milliseconds.
 * @param {Response} response @param {number} trip
 */
function timing(response, trip) {
  const said = response.headers.get("server-timing") ?? "";
  const part = (/** @type {string} */ name) => Number(said.match(new RegExp(`${name};dur=([0-9.]+)`))?.[1] ?? NaN);
  return { trip, queue: part("queue"), compute: part("compute") };
}
