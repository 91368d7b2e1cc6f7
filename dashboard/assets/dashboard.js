// What pages do beside what htmx does: nothing is replaced while somebody is about to do
// something, and a weir that does not answer is told of.
"use strict";
(() => {
  const busy = (part) => {
    const open = part.querySelector("details[open]");
    const at = document.activeElement;
    return open !== null || (at && part.contains(at) && at.matches("input, select, textarea"));
  };
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden || busy(event.target)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { detail } = event;
    if (detail.xhr.getResponseHeader("X-Weir-Part")) {
      detail.shouldSwap = true; // it says what is wrong, if anything is
      detail.isError = false;
    }
    // It may have been opened while the request was under way.
    if (busy(detail.target)) detail.shouldSwap = false;
  });

  const offline = document.getElementById("offline");
  const answers = (yes) => () => { offline.hidden = yes; };
  document.addEventListener("htmx:sendError", answers(false));
  document.addEventListener("htmx:responseError", answers(false));
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.successful) offline.hidden = true;
  });

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
})();
