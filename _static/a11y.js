/* What neither the theme nor plain HTML does for readers without a mouse, and on paper. */
(() => {
  const WIDE =
    "div.math > mjx-container, div.cell_output .output, div.highlight pre, " +
    ".pst-scrollable-table-container";

  /* What scrolls sideways must be reachable by keyboard; what does not scroll is no stop. */
  function markWide() {
    for (const box of document.querySelectorAll(WIDE)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  /* Folded answers are printed open, then folded again. */
  function unfold() {
    const folded = document.querySelectorAll("details:not([open])");
    folded.forEach((answer) => (answer.open = true));
    window.addEventListener("afterprint", () => folded.forEach((answer) => (answer.open = false)), {
      once: true,
    });
  }

  /* A page on the disk may not read its neighbours: search then lists titles alone. */
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS === "object")
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  document.addEventListener("DOMContentLoaded", markWide);
  window.addEventListener("load", markWide);
  window.addEventListener("resize", markWide);
  window.addEventListener("beforeprint", unfold);
})();
