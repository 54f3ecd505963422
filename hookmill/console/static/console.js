// Loads the parts of a page again that have changed. Without it, every page works for reading.
"use strict";

(() => {
  const wanted = () => document.body.dataset.live;
  const button = document.getElementById("live-switch");
  if (!wanted() || !button) return;
  button.parentElement.hidden = false;
  let stream = null;
  let loading = false;
  let again = false;

  // What a person is reading or typing in stays as it is.
  const isInUse = (part) => {
    const chosen = document.getSelection();
    return (
      (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, summary, pre")) ||
      (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode)) ||
      part.querySelector("details[open]") !== null
    );
  };

  const swap = (fresh) => {
    for (const part of document.querySelectorAll("[data-swap]")) {
      const other = fresh.getElementById(part.id);
      if (!other || part.isEqualNode(other) || isInUse(part)) continue;
      const hadFocus = part.contains(document.activeElement);
      part.replaceWith(document.importNode(other, true));
      if (hadFocus) document.getElementById("main").focus({ preventScroll: true });
    }
    document.body.dataset.live = fresh.body.dataset.live;
    if (!wanted()) close();
  };

  const load = async () => {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Hookmill-Live": "1" } });
      if (answer.redirected) location.reload(); // the session has ended
      else if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The console is away: the stream opens again when it is back.
    } finally {
      loading = false;
    }
    if (again) {
      again = false;
      load();
    }
  };

  const close = () => {
    if (stream) stream.close();
    stream = null;
  };

  const open = () => {
    if (stream || document.hidden || !wanted() || button.getAttribute("aria-pressed") !== "true") return;
    stream = new EventSource("/live");
    stream.addEventListener("open", load); // what has changed meanwhile
    stream.addEventListener("changed", (event) => {
      if (event.data.split(" ").includes(wanted())) load();
    });
  };

  button.addEventListener("click", () => {
    const isOn = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!isOn));
    if (isOn) close();
    else open();
  });
  // A browser has few connections to a host: a page that nobody sees needs none.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
