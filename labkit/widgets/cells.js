// A drawing made of cells: it comes from Python, here are only focus, keyboard and highlight.

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function render({ model, el }) {
  el.classList.add("lk-board");
  const view = document.createElement("div");
  view.className = "lk-view";
  view.dataset.lmSuppressShortcuts = "true"; // arrows move between cells of the drawing, not of the notebook
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  const problem = document.createElement("div");
  problem.className = "lk-problem";
  problem.setAttribute("role", "alert");
  el.append(view, say, problem);

  const cells = () => [...view.querySelectorAll(".lk-cell")];
  const at = (row, column) => view.querySelector(`.lk-cell[data-row="${row}"][data-col="${column}"]`);
  const last = (name) => Math.max(...cells().map((cell) => Number(cell.dataset[name])));

  function light(cell) {
    const group = cell?.dataset.group;
    view.firstElementChild?.classList.toggle("lk-lit", Boolean(group));
    for (const band of view.querySelectorAll(".lk-band")) {
      band.classList.toggle("lk-on", band.dataset.group === group);
    }
    if (cell) say.textContent = cell.dataset.say;
  }

  function focus(cell) {
    for (const other of cells()) other.setAttribute("tabindex", other === cell ? "0" : "-1");
    cell.focus({ preventScroll: false });
  }

  function draw() {
    const focused = view.contains(document.activeElement) ? document.activeElement.dataset : null;
    view.innerHTML = model.get("svg");
    const same = focused && at(focused.row, focused.col);
    if (same) focus(same);
    else light(null);
  }

  const news = () => { say.textContent = model.get("news"); };
  const trouble = () => { problem.textContent = model.get("problem") && `✘ ${model.get("problem")}`; };

  view.addEventListener("pointerover", (event) => light(event.target.closest(".lk-cell") ?? document.activeElement.closest?.(".lk-cell")));
  view.addEventListener("pointerleave", () => light(view.querySelector(".lk-cell:focus")));
  view.addEventListener("focusin", (event) => light(event.target.closest(".lk-cell")));
  view.addEventListener("focusout", () => light(null));
  // A cell that has something to do says what: Python does it, and sends another drawing.
  const act = (cell) => { if (cell.dataset.act) model.send({ act: cell.dataset.act }); };
  view.addEventListener("click", (event) => {
    const cell = event.target.closest(".lk-cell");
    if (cell) { focus(cell); act(cell); }
  });
  view.addEventListener("keydown", (event) => {
    const cell = event.target.closest(".lk-cell");
    if (!cell) return;
    let row = Number(cell.dataset.row);
    let column = Number(cell.dataset.col);
    if (STEPS[event.key]) [row, column] = [row + STEPS[event.key][0], column + STEPS[event.key][1]];
    else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = last("col");
    else if (event.key === "Escape") { cell.blur(); return; }
    else if (cell.dataset.act && (event.key === "Enter" || event.key === " ")) act(cell);
    else return;
    event.preventDefault();
    event.stopPropagation();
    const next = at(row, column);
    if (next) focus(next);
  });

  model.on("change:svg", draw);
  model.on("change:news", news);
  model.on("change:problem", trouble);
  draw();
  trouble();
  model.send({ views: 1 });
  return () => {
    model.off("change:svg", draw);
    model.off("change:news", news);
    model.off("change:problem", trouble);
    model.send({ views: -1 });
  };
}

export default { render };
