// Light or dark. No module: it runs before the first paint, so that no page flashes in the other theme.
"use strict";

(() => {
  const KEY = "theme";
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  /** @returns {keyof typeof NEXT} */
  function chosen() {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "auto";
  }

  function apply() {
    const theme = chosen();
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    // Swagger UI's own name for it
    root.classList.toggle("dark-mode", theme === "dark" || (theme === "auto" && dark.matches));
    for (const button of document.querySelectorAll("[data-theme-button]")) {
      button.textContent = `Theme: ${theme}`;
    }
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    for (const button of document.querySelectorAll("[data-theme-button]")) {
      button.addEventListener("click", () => {
        localStorage.setItem(KEY, NEXT[chosen()]);
        apply();
      });
    }
  });
})();
