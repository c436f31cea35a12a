// Tabs, as the ARIA Authoring Practices describe them: arrows, Home and End go from tab to tab.
import { at } from "./page.js";

/**
 * Make the tabs work. The address names the open one after #.
 * @param {(name: string) => void} opened is told which tab is open now
 * @returns {(name: string) => void} opens a tab
 */
export function startTabs(opened) {
  const tabs = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("[role=tab]")]);
  const names = tabs.map((tab) => tab.id.replace("tab-", ""));

  function open(/** @type {string} */ name, focus = false) {
    tabs.forEach((tab, index) => {
      const chosen = names[index] === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      at(`panel-${names[index]}`).hidden = !chosen;
      if (chosen && focus) tab.focus();
    });
    if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
    opened(name);
  }

  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => open(names[index]));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const moves = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: last };
      const next = moves[/** @type {keyof typeof moves} */ (event.key)];
      if (next === undefined) return;
      event.preventDefault();
      open(names[(next + tabs.length) % tabs.length], true);
    });
  });
  addEventListener("hashchange", () => {
    const name = location.hash.slice(1);
    if (names.includes(name)) open(name);
  });
  const asked = location.hash.slice(1);
  open(names.includes(asked) ? asked : names[0]);
  return open;
}
