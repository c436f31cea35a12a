// Small helpers for the elements of the page.

/** The element with an id, which page.html has. @param {string} id @returns {any} */
export function at(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`page.html has no #${id}`);
  return element;
}

/**
 * A new element with properties and children.
 * @param {string} name @param {Record<string, any>} properties @param {(Node | string)[]} children @returns {any}
 */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Say something to screen readers once nothing new has come for some milliseconds. @param {HTMLElement} status */
export function announcer(status) {
  let timer = 0;
  return (/** @type {string} */ text, wait = 700) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      status.textContent = text;
    }, wait);
  };
}

/** Put text on the clipboard. Browsers have one only on HTTPS and on localhost. @param {string} text */
export async function copy(text) {
  if (!navigator.clipboard) throw new Error("no clipboard");
  await navigator.clipboard.writeText(text);
}

/** Say on a button, for a moment, what has become of a click. @param {HTMLButtonElement} button @param {string} text */
export function flash(button, text) {
  button.dataset.text ??= button.textContent ?? "";
  button.textContent = text;
  setTimeout(() => {
    button.textContent = button.dataset.text ?? "";
  }, 1500);
}

/** Whether the reader wants no motion. */
export function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
