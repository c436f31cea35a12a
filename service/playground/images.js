// Images of a model on canvases.

/**
 * An image as the service gives it: grey levels row by row, or red, green and blue of each pixel.
 * @typedef {{height: number, width: number, channels: number, bytes: Uint8Array}} Pixels
 */

/** Show an image. @param {HTMLCanvasElement} canvas @param {Pixels} image */
export function show(canvas, { height, width, channels, bytes }) {
  const data = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    for (let part = 0; part < 3; part += 1) {
      data.data[4 * pixel + part] = bytes[channels * pixel + (channels === 3 ? part : 0)];
    }
    data.data[4 * pixel + 3] = 255;
  }
  resize(canvas, width, height);
  context(canvas).putImageData(data, 0, 0);
}

/** Decode a PNG. @param {string} base64 @returns {Promise<HTMLImageElement>} */
export function decodePng(base64) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve(image); // sooner than `createImageBitmap` or `decode`, which ask other processes
    image.src = pngUrl(base64);
  });
}

/** Show a decoded PNG. @param {HTMLCanvasElement} canvas @param {HTMLImageElement} image */
export function showPng(canvas, image) {
  resize(canvas, image.width, image.height);
  context(canvas).drawImage(image, 0, 0);
}

/** An empty canvas of a model's shape. @param {HTMLCanvasElement} canvas @param {import("./api.js").Model} model */
export function clear(canvas, model) {
  const [height, width] = model.image_shape;
  resize(canvas, width, height);
  const pen = context(canvas);
  pen.fillStyle = grey(model.background);
  pen.fillRect(0, 0, width, height);
}

/** The bytes of a text in base64. @param {string} base64 */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** @param {string} base64 */
export function pngUrl(base64) {
  return `data:image/png;base64,${base64}`;
}

/** A grey level as a colour. @param {number} level */
export function grey(level) {
  return `rgb(${level} ${level} ${level})`;
}

/** Have the browser save a file. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2DSettings} [settings] */
export function context(canvas, settings) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));
}

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}
