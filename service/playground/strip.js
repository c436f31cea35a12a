// The live strip: how many requests the page sends, and what their answers say of their time.
import { context } from "./images.js";
import { at } from "./page.js";

const WINDOW_MS = 2000;
const SHOWN = 80;
const REFRESH_MS = 250;

/** @param {import("./api.js").Client} client */
export function startStrip(client) {
  /** @type {number[]} */ const times = [];
  /** @type {number[]} */ const trips = [];
  let last = { trip: NaN, queue: NaN, compute: NaN };
  let drawn = false;

  client.addEventListener("answer", (event) => {
    last = /** @type {CustomEvent} */ (event).detail;
    times.push(performance.now());
    trips.push(last.trip);
    if (trips.length > SHOWN) trips.shift();
    drawn = false;
  });

  setInterval(() => {
    const since = performance.now() - WINDOW_MS;
    while (times.length && times[0] < since) times.shift();
    at("per-second").textContent = String(Math.round((1000 * times.length) / WINDOW_MS));
    if (drawn) return;
    drawn = true;
    for (const name of /** @type {const} */ (["queue", "compute", "trip"]))
      at(name).textContent = milliseconds(last[name]);
    sketch(at("spark"), trips);
  }, REFRESH_MS);
}

/** @param {number} value */
function milliseconds(value) {
  if (Number.isNaN(value)) return "–";
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

/** A line of the round trips, the newest on the right. @param {HTMLCanvasElement} canvas @param {number[]} trips */
function sketch(canvas, trips) {
  const pen = context(canvas);
  const most = Math.max(...trips, 1);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.beginPath();
  trips.forEach((trip, index) => {
    pen.lineTo(
      canvas.width - ((trips.length - 1 - index) * canvas.width) / SHOWN - 2,
      canvas.height - 2 - (trip / most) * (canvas.height - 4),
    );
  });
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = 1.5;
  pen.stroke();
}
