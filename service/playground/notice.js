// The one place for what went wrong: the service's problems as it says them, and that it is away.
import { Away, Problem, Stale } from "./api.js";
import { at, make } from "./page.js";

const RETRY_MS = 1000;

export class Notice {
  #box = at("notice");
  #client;
  #waiting = false;

  /**
   * @param {import("./api.js").Client} client
   * @param {() => void} back is called when the service answers again
   * @param {() => void} unauthorized is called when it wants an API key
   */
  constructor(client, back, unauthorized) {
    this.#client = client;
    this.back = back;
    this.unauthorized = unauthorized;
  }

  /** Nothing is wrong any more, unless the service is away. */
  clear() {
    if (!this.#waiting) this.#box.replaceChildren();
  }

  /**
   * Do something, and show how it fails. That an answer is stale is nothing to show.
   * @template Result
   * @param {() => Promise<Result>} work
   * @returns {Promise<Result | undefined>} undefined if it failed
   */
  async guard(work) {
    try {
      const result = await work();
      this.clear();
      return result;
    } catch (error) {
      this.show(error);
      return undefined;
    }
  }

  /** @param {unknown} error */
  show(error) {
    if (error instanceof Away) this.#away();
    else if (error instanceof Problem) this.#problem(error);
    else if (!(error instanceof Stale)) throw error;
  }

  /** @param {Problem} problem */
  #problem(problem) {
    const errors = problem.errors.map(({ pointer, detail }) => make("li", {}, make("code", {}, pointer), ` ${detail}`));
    this.#say(
      make("strong", {}, `${problem.status} ${problem.title}`),
      make("p", {}, problem.message),
      ...(errors.length ? [make("ul", {}, ...errors)] : []),
      make("small", {}, `Request ${problem.requestId}`),
    );
    if (problem.status === 401) this.unauthorized();
  }

  #away() {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#say(make("strong", {}, "The service does not answer."), make("p", {}, "The page asks again every second."));
    setTimeout(() => this.#ask(), RETRY_MS);
  }

  async #ask() {
    try {
      await this.#client.send({ path: "readyz" });
    } catch (error) {
      if (error instanceof Problem) {
        this.#say(
          make("strong", {}, "The service is not ready yet."),
          make("p", {}, "The page asks again every second."),
        );
      }
      setTimeout(() => this.#ask(), RETRY_MS);
      return;
    }
    this.#waiting = false;
    this.clear();
    this.back();
  }

  /** @param {Node[]} children */
  #say(...children) {
    const close = make("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => this.#box.replaceChildren());
    this.#box.replaceChildren(close, ...children);
  }
}
