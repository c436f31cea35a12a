// Pictures from elsewhere: chosen, dropped, pasted, or taken with the camera.
import { context } from "./images.js";
import { at } from "./page.js";

/** @param {(picture: Blob) => void} take is given each picture */
export function startSources(take) {
  choose(take);
  drop(take);
  addEventListener("paste", (event) => {
    const picture = pictureIn(event.clipboardData);
    if (picture && !at("panel-draw").hidden) take(picture);
  });
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

/** @param {(picture: Blob) => void} take */
function drop(take) {
  const place = /** @type {HTMLElement} */ (document.querySelector(".pad"));
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    const picture = pictureIn(event.dataTransfer);
    if (picture) take(picture);
  });
}

/** @param {DataTransfer | null} data */
function pictureIn(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/") || file.type === "");
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
