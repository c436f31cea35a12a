// A button that moves a range input there and back, until it is pressed again or out of sight.

const FRAMES_PER_SECOND = 24;

export class Player {
  #timer = 0;
  #forward = true;

  /** @param {HTMLButtonElement} button @param {HTMLInputElement} range */
  constructor(button, range) {
    this.button = button;
    this.range = range;
    this.name = button.textContent ?? "";
    button.addEventListener("click", () => (this.playing ? this.stop() : this.start()));
    range.addEventListener("pointerdown", () => this.stop());
    range.addEventListener("keydown", () => this.stop());
  }

  get playing() {
    return this.#timer !== 0;
  }

  start() {
    this.stop();
    this.#timer = setInterval(() => this.#step(), 1000 / FRAMES_PER_SECOND);
    this.button.textContent = "Pause";
    this.button.setAttribute("aria-pressed", "true");
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.button.textContent = this.name;
    this.button.setAttribute("aria-pressed", "false");
  }

  #step() {
    if (!this.range.checkVisibility()) {
      this.stop();
      return;
    }
    const place = Number(this.range.value);
    if (place >= Number(this.range.max)) this.#forward = false;
    if (place <= 0) this.#forward = true;
    this.range.value = String(place + (this.#forward ? 1 : -1));
    this.range.dispatchEvent(new Event("input"));
  }
}
