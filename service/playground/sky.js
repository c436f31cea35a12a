// The map's canvas: points, labels, a cursor and a path, in the coordinates of the plane.
import { context } from "./images.js";

const MARGIN = 0.06; // of each side
const COLOURS = [
  "#ff7a70",
  "#ffb454",
  "#f2e05c",
  "#9ddb5e",
  "#4fd6a4",
  "#53c6f0",
  "#8aa4ff",
  "#c58cff",
  "#ff8ad0",
  "#d7c4a8",
];

/** @typedef {[number, number]} Place in the plane: across, and up */

/** The colour of a label. @param {number} label */
export function colourOf(label) {
  return COLOURS[label % COLOURS.length];
}

export class Sky {
  #stars = document.createElement("canvas");
  /** @type {import("./plane.js").Plane | undefined} */ #plane;
  /** @type {(label: number) => string} */ #nameOf = String;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  /**
   * @param {import("./plane.js").Plane | undefined} plane
   * @param {(label: number) => string} nameOf gives the name of a label
   */
  shape(plane, nameOf) {
    this.#plane = plane;
    this.#nameOf = nameOf;
    this.#fit();
  }

  /** Where in the plane a pointer is. @param {PointerEvent} event @returns {[number, number]} */
  at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const { left: low, bottom, across, up } = this.#view();
    return [low + (across * (event.clientX - left)) / width, bottom + up * (1 - (event.clientY - top) / height)];
  }

  /** How far in the plane so many pixels of the screen are. @param {number} pixels */
  distance(pixels) {
    return (pixels * this.#view().across) / (this.canvas.clientWidth || 1);
  }

  /**
   * Draw the points, and what else there is: the keys' cursor, a point that is chosen, a path, and a place along it.
   * @param {{cursor?: Place, chosen?: import("./plane.js").Point, path?: Place[], along?: Place}} marks
   */
  draw({ cursor, chosen, path, along } = {}) {
    if (!this.canvas.width) return; // the map is not in sight
    const pen = context(this.canvas);
    const ratio = devicePixelRatio;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.#stars, 0, 0);
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 2 * ratio;
    if (path) {
      pen.beginPath();
      for (const [x, y] of path) pen.lineTo(...this.#to(x, y));
      pen.stroke();
    }
    if (chosen) this.#ring(pen, this.#to(chosen.x, chosen.y), 7 * ratio);
    if (along) this.#ring(pen, this.#to(...along), 7 * ratio);
    if (cursor) {
      const [x, y] = this.#to(...cursor);
      pen.beginPath();
      for (const [right, down] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        pen.moveTo(x + 4 * ratio * right, y + 4 * ratio * down);
        pen.lineTo(x + 14 * ratio * right, y + 14 * ratio * down);
      }
      pen.stroke();
    }
  }

  #view() {
    const { left, right, bottom, top } = this.#plane?.bounds ?? { left: 0, right: 1, bottom: 0, top: 1 };
    const across = (right - left || 1) / (1 - 2 * MARGIN);
    const up = (top - bottom || 1) / (1 - 2 * MARGIN);
    return { left: left - across * MARGIN, bottom: bottom - up * MARGIN, across, up };
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  #to(x, y) {
    const { left, bottom, across, up } = this.#view();
    return [((x - left) / across) * this.canvas.width, (1 - (y - bottom) / up) * this.canvas.height];
  }

  /** @param {CanvasRenderingContext2D} pen @param {[number, number]} place @param {number} radius */
  #ring(pen, [x, y], radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.stroke();
  }

  /** As many pixels as the screen has, and the points on them. */
  #fit() {
    const ratio = devicePixelRatio;
    for (const canvas of [this.canvas, this.#stars]) {
      canvas.width = this.canvas.clientWidth * ratio;
      canvas.height = this.canvas.clientHeight * ratio;
    }
    if (!this.#plane || !this.canvas.width) return;
    const pen = context(this.#stars);
    pen.globalAlpha = 0.85;
    for (const { x, y, label } of this.#plane.points) {
      const [across, down] = this.#to(x, y);
      pen.fillStyle = colourOf(label);
      pen.beginPath();
      pen.arc(across, down, 2.2 * ratio, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
    pen.font = `700 ${18 * ratio}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 5 * ratio;
    pen.strokeStyle = "#0d0f12";
    pen.fillStyle = "#ffffff";
    pen.lineJoin = "round";
    for (const { label, x, y } of this.#plane.middles()) {
      pen.strokeText(this.#nameOf(label), ...this.#to(x, y));
      pen.fillText(this.#nameOf(label), ...this.#to(x, y));
    }
    this.draw();
  }
}
