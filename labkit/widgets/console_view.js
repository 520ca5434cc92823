// The console of a machine: the lines come from Python already safe; here they are shown, and the last one kept in sight.

function render({ model, el }) {
  el.classList.add("lk-board");
  const screen = document.createElement("pre");
  screen.className = "lk-console";
  screen.tabIndex = 0;
  screen.setAttribute("aria-label", "La console della macchina virtuale");
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  el.append(screen, say);

  const draw = () => {
    const atTheEnd = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 30;
    screen.innerHTML = model.get("html");
    // Who has scrolled up to read is left where they are.
    if (atTheEnd) screen.scrollTop = screen.scrollHeight;
  };
  const news = () => { say.textContent = model.get("news") && `La macchina ${model.get("news")}.`; };

  model.on("change:html", draw);
  model.on("change:news", news);
  draw();
  news();
  requestAnimationFrame(() => { screen.scrollTop = screen.scrollHeight; });
  return () => {
    model.off("change:html", draw);
    model.off("change:news", news);
  };
}

export default { render };
