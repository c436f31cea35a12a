// The dialog "Request": the request behind a picture, as a command and as a program.
import { typeOf } from "./api.js";
import { save } from "./images.js";
import { at, copy, flash } from "./page.js";

/** @typedef {import("./api.js").Ask} Ask */

/** The name of a file that holds a picture. @param {import("./api.js").Picture} picture */
function fileName(picture) {
  return `picture.${typeOf(picture).split("/")[1].replace("jpeg", "jpg")}`;
}

/** The media type of what is saved. @param {Ask} ask */
function output({ accept = "application/json" }) {
  return { "application/octet-stream": "images.bin", "image/png": "images.png" }[accept];
}

/** @param {Ask} ask @param {string} base the address of the service @param {boolean} keyed */
function curl({ path, json, picture, accept }, base, keyed) {
  const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  const file = output({ path, accept });
  const lines = [`curl ${quoted(base + path)}`];
  if (keyed) lines.push(`-H "authorization: Bearer $API_KEY"`);
  if (accept) lines.push(`-H 'accept: ${accept}'`);
  if (json) lines.push("-H 'content-type: application/json'", `--data ${quoted(JSON.stringify(json))}`);
  if (picture) lines.push(`-H 'content-type: ${typeOf(picture)}'`, `--data-binary @${fileName(picture)}`);
  if (file) lines.push(`--output ${file}`);
  return lines.join(" \\\n  ");
}

/** @param {Ask} ask @param {string} base @param {boolean} keyed */
function python({ path, json, picture, accept }, base, keyed) {
  const headers = [];
  if (keyed) headers.push(`"authorization": f"Bearer {os.environ['API_KEY']}"`);
  if (accept) headers.push(`"accept": "${accept}"`);
  if (picture) headers.push(`"content-type": "${typeOf(picture)}"`);
  const takes = [`    "${base}${path}",`];
  if (headers.length) takes.push(`    headers={${headers.join(", ")}},`);
  if (json) takes.push(`    json=${JSON.stringify(json)},`);
  if (picture) takes.push(`    data=open("${fileName(picture)}", "rb"),`);
  const file = output({ path, accept });
  return [
    ...(keyed ? ["import os", ""] : []),
    "import requests",
    "",
    "response = requests.post(",
    ...takes,
    ")",
    "response.raise_for_status()",
    file ? `open("${file}", "wb").write(response.content)` : "print(response.json())",
  ].join("\n");
}

/**
 * Make the dialog work.
 * @param {import("./api.js").Client} client
 * @returns {(ask: Ask) => void} opens it
 */
export function startRequests(client) {
  const dialog = at("request");
  /** @type {Ask} */
  let shown;

  function write() {
    const language = dialog.querySelector("input:checked").value;
    const base = new URL(".", document.baseURI).href;
    at("request-code").textContent = (language === "curl" ? curl : python)(shown, base, Boolean(client.key));
    at("request-picture").hidden = !shown.picture;
  }

  for (const input of dialog.querySelectorAll("input")) input.addEventListener("change", write);
  at("request-picture").addEventListener("click", () => {
    if (shown.picture) save(new Blob([shown.picture]), fileName(shown.picture));
  });
  at("request-copy").addEventListener("click", () => {
    copy(at("request-code").textContent).then(
      () => flash(at("request-copy"), "Copied"),
      () => getSelection()?.selectAllChildren(at("request-code")),
    );
  });
  return (ask) => {
    shown = ask;
    write();
    dialog.showModal();
  };
}
