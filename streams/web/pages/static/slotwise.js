// Pages are whole without this. It makes an open page again when something has changed, and reads the keys of the help.
"use strict";
(() => {
  const STALE_S = 12;
  const main = () => document.getElementById("main");
  const stale = document.getElementById("stale");
  const help = document.getElementById("help");
  let last = Date.now();
  let paused = false;
  let pointer = false;
  let making = false;
  let row = -1;
  let source = null;

  const rows = () => [...document.querySelectorAll("main tbody tr, main .boxes > .box")];
  const isBusy = () => {
    const active = document.activeElement;
    const typing = active && main().contains(active) && /^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(active.tagName);
    const marked = String(document.getSelection() || "") !== "";
    return paused || pointer || typing || marked || document.hidden || (help && help.open);
  };

  function mark(at) {
    const all = rows();
    if (!all.length) { return; }
    row = Math.max(0, Math.min(at, all.length - 1));
    all.forEach((one, n) => one.classList.toggle("marked", n === row));
    all[row].scrollIntoView({ block: "nearest" });
  }

  function say(text) {
    const pulse = document.getElementById("pulse");
    if (pulse) { pulse.textContent = text; }
  }

  async function make() {
    if (making || isBusy()) { say(isBusy() ? "paused" : "live"); return; }
    making = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (!answer.ok || isBusy()) { return; }
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = made.getElementById("main");
      if (!fresh) { return; }
      const open = [...document.querySelectorAll("main details[open][id]")].map((one) => one.id);
      const scrolled = [...document.querySelectorAll("main .scroll")].map((one) => one.scrollLeft);
      main().replaceChildren(...fresh.childNodes);
      open.forEach((id) => { const one = document.getElementById(id); if (one) { one.open = true; } });
      [...document.querySelectorAll("main .scroll")].forEach((one, n) => { one.scrollLeft = scrolled[n] || 0; });
      if (row >= 0) { mark(row); }
      last = Date.now();
    } catch (_) {
      // The line about stale values says it.
    } finally {
      making = false;
    }
  }

  function listen() {
    if (source || !document.body.hasAttribute("data-live")) { return; }
    source = new EventSource("/ui/changes");
    source.addEventListener("changed", () => { if (isBusy()) { last = Date.now(); } make(); });
  }

  // A browser opens few connections to one server: a page that is not seen gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { if (source) { source.close(); source = null; } } else { listen(); make(); }
  });

  document.addEventListener("pointerover", (event) => {
    pointer = Boolean(event.target.closest && event.target.closest("main table, main .boxes, main .stream"));
    if (document.body.hasAttribute("data-live")) { say(isBusy() ? "paused" : "live"); }
  });
  document.documentElement.addEventListener("pointerleave", () => { pointer = false; });

  setInterval(() => {
    if (!stale || !document.body.hasAttribute("data-live") || document.hidden) { return; }
    const seconds = Math.round((Date.now() - last) / 1000);
    stale.hidden = seconds < STALE_S;
    stale.textContent = `Last update ${seconds} s ago.`;
  }, 1000);

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName || "");
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (typing) { if (event.key === "Escape") { event.target.blur(); } return; }
    switch (event.key) {
      case "/": { const search = document.getElementById("search"); if (search) { event.preventDefault(); search.focus(); } break; }
      case "j": mark(row + 1); break;
      case "k": mark(row < 0 ? 0 : row - 1); break;
      case "p": paused = !paused; say(paused ? "paused" : "live"); if (!paused) { make(); } break;
      case "?": if (help && help.showModal && !help.open) { help.showModal(); } break;
      case "Enter": {
        if (event.target.closest("a, button, summary") || row < 0) { return; }
        const link = rows()[row] && rows()[row].querySelector("a[href]");
        if (link) { link.click(); }
        break;
      }
    }
  });

  document.documentElement.classList.add("script");
  listen();
})();
