// Shows what the server sends: it renders every part of the page, sends those that have changed, and this puts them in.
"use strict";
(() => {
  const RETRY = 5000;
  const live = document.getElementById("live");
  const summary = document.getElementById("summary");
  const last = {};
  let source = null;

  const say = (level, word) => {
    live.className = "badge " + level;
    live.textContent = word;
  };

  const show = (parts) => {
    for (const [id, html] of Object.entries(parts)) {
      if (last[id] === html) continue;
      last[id] = html;
      const place = document.getElementById(id);
      // A part that was not there when the page was loaded comes with the next load.
      if (place) place.innerHTML = html;
    }
  };

  const close = () => {
    if (source) source.close();
    source = null;
  };

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource("status/events");
    source.addEventListener("status", (event) => {
      const state = JSON.parse(event.data);
      show(state.sections);
      // A live region is read out whenever it is written to.
      if (summary.textContent !== state.summary) summary.textContent = state.summary;
      document.title = state.summary === "All is well" ? "Holdfast status" : "(!) Holdfast: " + state.summary;
      say("ok", "Live");
    });
    source.addEventListener("error", () => {
      // The browser comes back by itself, but not after a refusal.
      const refused = source && source.readyState === EventSource.CLOSED;
      say("warn", refused ? "Not live: too many viewers?" : "Not live, trying again");
      if (refused) {
        close();
        setTimeout(open, RETRY);
      }
    });
  };

  // Hidden pages need no updates, and streams are a bounded good.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close();
      say("off", "Paused");
    } else {
      open();
    }
  });
  open();
})();
