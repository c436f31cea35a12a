// The drawing pad: strokes and pictures on paper, by mouse, touch, pen or keys.
import { bytesOf, context, grey } from "./images.js";

/**
 * What is on the paper, in order: strokes, and pictures with the file that they are from.
 * @typedef {{colour: string, points: [number, number][]}} Stroke
 * @typedef {{bitmap: ImageBitmap | undefined, file: Blob}} Picture
 */

const SIDE = 280; // pixels of the paper's longer side, about
const STROKE = 1 / 13; // of the paper's shorter side: as wide as those of MNIST are in their images
const STEPS = 28; // arrow keys to cross the paper

/** Fires "draw" when what is on the paper has changed, and "pen" when a key lifts or lowers the pen. */
export class Pen extends EventTarget {
  /** @type {(Stroke | Picture)[]} */ #items = [];
  #paper = document.createElement("canvas");
  #background = 0;
  /** @type {[number, number] | undefined} */ #cursor;
  /** @type {number[] | undefined} */ #box;
  #down = false;
  colour = "#ffffff";
  /** When the paper last changed, by performance.now. */
  changed = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.canvas = canvas;
    context(this.#paper, { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => this.#lift());
    canvas.addEventListener("pointercancel", () => this.#lift());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#leave());
  }

  get empty() {
    return this.#items.length === 0;
  }

  get down() {
    return this.#down;
  }

  /** New paper of a model's shape and background. What was drawn stays. @param {import("./api.js").Model} model */
  shape({ image_shape: [height, width], background }) {
    const scale = Math.max(1, Math.round(SIDE / Math.max(height, width)));
    for (const canvas of [this.canvas, this.#paper]) {
      canvas.width = width * scale;
      canvas.height = height * scale;
    }
    this.colour = background < 128 ? "#ffffff" : "#000000";
    this.#background = background;
    this.#again();
  }

  undo() {
    this.#items.pop();
    this.#again();
    this.#change();
  }

  clear() {
    this.#items = [];
    this.#again();
    this.#change();
  }

  /**
   * Put a picture in place of everything. A file that the browser cannot show is sent all the same.
   * @param {Blob} file
   */
  async put(file) {
    const bitmap = await createImageBitmap(file).catch(() => undefined);
    this.#items = [{ bitmap, file }];
    this.#again();
    this.#change();
  }

  /** What is on the paper, as a file: a picture's own if nothing is drawn over it, else a PNG's bytes. */
  get file() {
    const [first] = this.#items;
    if (this.#items.length === 1 && "file" in first) return first.file;
    return bytesOf(this.#paper.toDataURL().split(",")[1]); // `toBlob` would wait for an idle moment
  }

  /**
   * Show where a digit was found: left, top, right and bottom, in pixels of `file`.
   * @param {number[] | undefined} box
   */
  set found(box) {
    const [first] = this.#items;
    this.#box = box;
    if (box && this.#items.length === 1 && "file" in first) {
      const place = first.bitmap && this.#place(first.bitmap);
      this.#box = place && box.map((value, index) => value * place.scale + (index % 2 ? place.top : place.left));
    }
    this.#show();
  }

  #change() {
    this.changed = performance.now();
    this.#box = undefined;
    this.dispatchEvent(new Event("draw"));
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#cursor = undefined;
    this.#begin(this.#at(event));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.#down || this.#cursor) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) this.#extend(this.#at(each));
    this.#change();
    this.#show();
  }

  /** @param {[number, number]} point */
  #begin(point) {
    this.#down = true;
    this.#items.push({ colour: this.colour, points: [point] });
    this.#extend(point);
    this.#change();
    this.#show();
  }

  /** @param {[number, number]} point */
  #extend(point) {
    const stroke = /** @type {Stroke} */ (this.#items.at(-1));
    stroke.points.push(point);
    this.#draw(stroke, stroke.points.length - 2);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = (event.shiftKey ? 0.25 : 1) * (Math.max(this.canvas.width, this.canvas.height) / STEPS);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") this.undo();
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (event.key === " ") this.#toggle();
    else if (event.key === "Escape" && this.#cursor) this.#leave();
    else if (move) this.#go(move[0], move[1]);
    else return;
    event.preventDefault();
  }

  #lift() {
    this.#down = false;
  }

  #toggle() {
    this.#cursor ??= this.#middle();
    if (this.#down) this.#down = false;
    else this.#begin(this.#cursor);
    this.#show();
    this.dispatchEvent(new Event("pen"));
  }

  /** @param {number} right @param {number} down */
  #go(right, down) {
    const [x, y] = this.#cursor ?? this.#middle();
    this.#cursor = [clamp(x + right, this.canvas.width), clamp(y + down, this.canvas.height)];
    if (this.#down) {
      this.#extend(this.#cursor);
      this.#change();
    }
    this.#show();
  }

  #leave() {
    this.#down = false;
    this.#cursor = undefined;
    this.#show();
  }

  /** @returns {[number, number]} */
  #middle() {
    return [this.canvas.width / 2, this.canvas.height / 2];
  }

  /** @param {PointerEvent} event @returns {[number, number]} */
  #at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - left) * this.canvas.width) / width,
      ((event.clientY - top) * this.canvas.height) / height,
    ];
  }

  /** Draw everything again. The pen is up: its stroke may be gone. */
  #again() {
    this.#down = false;
    this.#box = undefined;
    const pen = context(this.#paper);
    pen.fillStyle = grey(this.#background);
    pen.fillRect(0, 0, this.#paper.width, this.#paper.height);
    for (const item of this.#items) {
      if ("points" in item) this.#draw(item);
      else if (item.bitmap) {
        const { left, top, scale } = this.#place(item.bitmap);
        pen.drawImage(item.bitmap, left, top, item.bitmap.width * scale, item.bitmap.height * scale);
      }
    }
    this.#show();
  }

  /** Draw a stroke, or what has been added to it. @param {Stroke} stroke @param {number} from */
  #draw({ colour, points }, from = 0) {
    const pen = context(this.#paper);
    pen.strokeStyle = colour;
    pen.lineWidth = STROKE * Math.min(this.#paper.width, this.#paper.height);
    pen.lineCap = pen.lineJoin = "round";
    // One line at a time, so that a stroke has the same pixels whether it is drawn at once or as the pen moves.
    for (let index = from; index < points.length - 1; index += 1) {
      pen.beginPath();
      pen.moveTo(...points[index]);
      pen.lineTo(...points[index + 1]);
      pen.stroke();
    }
  }

  /** Where a picture lies on the paper: whole, and in the middle. @param {ImageBitmap} bitmap */
  #place({ width, height }) {
    const scale = Math.min(this.#paper.width / width, this.#paper.height / height);
    return { scale, left: (this.#paper.width - width * scale) / 2, top: (this.#paper.height - height * scale) / 2 };
  }

  /** Show the paper, and over it the keys' cursor and the box. */
  #show() {
    const pen = context(this.canvas);
    pen.drawImage(this.#paper, 0, 0);
    if (this.empty && !this.#cursor) {
      pen.fillStyle = this.#background < 128 ? "#a6abb1" : "#585d63";
      pen.font = "16px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText("Draw here", this.canvas.width / 2, this.canvas.height / 2);
    }
    pen.lineWidth = 2;
    pen.strokeStyle = "#7cc4ea";
    if (this.#box) {
      const [left, top, right, bottom] = this.#box;
      pen.setLineDash([6, 5]);
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.setLineDash([]);
    }
    if (this.#cursor) {
      const [x, y] = this.#cursor;
      pen.beginPath();
      pen.arc(x, y, this.#down ? 6 : 12, 0, 2 * Math.PI);
      pen.stroke();
    }
  }
}

/** @param {number} value @param {number} most */
function clamp(value, most) {
  return Math.min(Math.max(value, 0), most);
}
