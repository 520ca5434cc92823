// Starts reveal.js, says its keys and its buttons in Italian, and opens the speaker's window.
(() => {
  const KEYS = [
    ["→ spazio", "avanti"], ["←", "indietro"], ["↓ ↑", "approfondimento e ritorno"],
    ["s", "le note di chi parla"], ["f", "schermo intero"], ["o Esc", "tutte le slide"],
    ["b .", "schermo nero"], ["Inizio Fine", "prima e ultima slide"], ["?", "questo elenco"],
  ];
  const help = document.createElement("div");
  help.id = "tasti";
  help.hidden = true;
  help.setAttribute("role", "dialog");
  help.setAttribute("aria-label", "I tasti");
  help.innerHTML = KEYS.map(([key, what]) => `<div><kbd>${key}</kbd> ${what}</div>`).join("");
  help.addEventListener("click", () => { help.hidden = true; });
  document.body.append(help);
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" || (event.key === "Escape" && !help.hidden)) {
      help.hidden = event.key === "Escape" || !help.hidden;
      event.stopImmediatePropagation();
      event.preventDefault();
    }
  }, true);

  // ---- the speaker's window: this page writes in it, so it works from a file too
  let speaker = null;
  let started = null;

  const ahead = (slide) => {
    const all = Reveal.getSlides();
    return all[all.indexOf(slide) + 1];
  };
  const showNotes = () => {
    if (!speaker || speaker.closed) return;
    const current = Reveal.getCurrentSlide();
    const next = ahead(current);
    const page = speaker.document;
    page.getElementById("ora").textContent = current.querySelector("h1, h2")?.textContent || "";
    page.getElementById("note").innerHTML = current.querySelector("aside.notes")?.innerHTML || "<p>(nessuna nota)</p>";
    page.getElementById("poi").textContent = next?.querySelector("h1, h2")?.textContent || "è l'ultima slide";
    page.getElementById("dove").textContent = `${Reveal.getSlidePastCount() + 1} di ${Reveal.getTotalSlides()}`;
  };
  const tick = () => {
    if (!speaker || speaker.closed) return;
    const two = (n) => String(n).padStart(2, "0");
    const passed = Math.floor((Date.now() - started) / 1000);
    speaker.document.getElementById("tempo").textContent =
      `${new Date().toLocaleTimeString("it", { hour: "2-digit", minute: "2-digit" })} · passati ` +
      `${two(Math.floor(passed / 60))}:${two(passed % 60)}`;
  };
  const openSpeaker = () => {
    if (!speaker || speaker.closed) {
      speaker = window.open("", "labkit-note", "width=900,height=700");
      if (!speaker) return;
      started = Date.now();
      speaker.document.write(`<!DOCTYPE html><html lang="it"><meta charset="utf-8"><title>Note: ${document.title}</title>
        <style>body{font:24px/1.5 system-ui,sans-serif;margin:1.5rem 2rem;color:#16202c}h1{font-size:30px}
        #testa{display:flex;justify-content:space-between;color:#4a5766;font-size:20px}#piede{border-top:2px solid #b3690b;
        padding-top:.5rem;color:#4a5766}</style>
        <div id="testa"><span id="dove"></span><span id="tempo"></span></div><h1 id="ora"></h1><div id="note"></div>
        <p id="piede">Poi: <b id="poi"></b></p></html>`);
      speaker.document.close();
      speaker.addEventListener("keydown", (event) => {
        if (["ArrowRight", "ArrowDown", "PageDown", " "].includes(event.key)) Reveal.next();
        if (["ArrowLeft", "ArrowUp", "PageUp"].includes(event.key)) Reveal.prev();
      });
      speaker.setInterval(tick, 1000);
    }
    showNotes();
    tick();
    speaker.focus();
  };

  Reveal.initialize({
    width: 1280, height: 720, margin: 0.02, center: false, hash: true, slideNumber: "c/t", help: false, jumpToSlide: false,
    transition: "none", backgroundTransition: "none", pdfSeparateFragments: false,
    keyboard: { 83: openSpeaker, 191: null },
  }).then(() => {
    const say = (selector, text) => document.querySelectorAll(selector).forEach((button) => {
      button.setAttribute("aria-label", text);
    });
    say(".navigate-left", "slide precedente");
    say(".navigate-right", "slide successiva");
    say(".navigate-up", "torna su");
    say(".navigate-down", "approfondimento");
    document.querySelectorAll(".resume-button").forEach((button) => { button.textContent = "Riprendi"; });
    Reveal.on("slidechanged", showNotes);
    document.documentElement.dataset.pronto = "si";
  });
})();
