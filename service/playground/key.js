// The API key. The field is there only on a server that has asked for one.
import { at } from "./page.js";

/**
 * @param {import("./api.js").Client} client
 * @param {() => void} given is called with a new key in place
 * @returns {() => void} asks for a key
 */
export function startKey(client, given) {
  const dialog = at("key");
  const field = at("key-field");

  function ask() {
    at("key-open").hidden = false;
    if (!dialog.open) dialog.showModal();
  }

  at("key-open").hidden = !client.key;
  at("key-open").addEventListener("click", ask);
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "use") {
      client.key = field.value.trim();
      given();
    }
    dialog.returnValue = "";
    field.value = "";
  });
  return ask;
}
