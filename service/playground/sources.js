// Pictures from elsewhere: chosen, dropped, pasted, or taken with the camera.
import { context } from "./images.js";
import { at } from "./page.js";

/** @param {(picture: Blob) => void} take is given each picture */
export function startSources(take) {
  choose(take);
  drop(take);
  addEventListener("paste", (event) => takeFrom(event.clipboardData, take));
  camera(take);
}

/** @param {(picture: Blob) => void} take */
function choose(take) {
  const input = at("file");
  at("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
}

/** Anywhere on the page: else the browser would leave it for the picture. @param {(picture: Blob) => void} take */
function drop(take) {
  const pad = /** @type {HTMLElement} */ (document.querySelector(".pad"));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    pad.classList.add("over");
  });
  addEventListener("dragleave", () => pad.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    pad.classList.remove("over");
    takeFrom(event.dataTransfer, take);
  });
}

/**
 * Take a picture that was dropped or pasted, while the pad is open.
 * @param {DataTransfer | null} data @param {(picture: Blob) => void} take
 */
function takeFrom(data, take) {
  const picture = [...(data?.files ?? [])].find(({ type }) => type.startsWith("image/") || type === "");
  if (picture && !at("panel-draw").hidden) take(picture);
}

/** The camera is on only while its dialog is open. @param {(picture: Blob) => void} take */
function camera(take) {
  const dialog = at("shot");
  const video = at("video");
  at("camera").hidden = !navigator.mediaDevices; // browsers have it only on HTTPS and on localhost
  at("camera").addEventListener("click", async () => {
    dialog.showModal();
    at("shoot").disabled = true;
    at("shot-title").textContent = "Camera";
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await video.play();
      at("shoot").disabled = false;
      if (!dialog.open) stop();
    } catch (error) {
      at("shot-title").textContent = `No camera: ${/** @type {Error} */ (error).message}`;
    }
  });
  at("shoot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    context(canvas).drawImage(video, 0, 0);
    canvas.toBlob((picture) => picture && take(picture), "image/png");
    dialog.close();
  });
  dialog.addEventListener("close", stop);

  function stop() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  }
}
