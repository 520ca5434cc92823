// The plan: the drawing comes from Python, here the row that changed is shown and scrolled into view.

function render({ model, el }) {
  el.classList.add("lk-board");
  const view = document.createElement("div");
  view.className = "lk-view";
  view.tabIndex = 0; // a long plan scrolls with the arrow keys
  view.dataset.lmSuppressShortcuts = "true";
  view.setAttribute("role", "group");
  view.setAttribute("aria-label", "Passi del piano");
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  const problem = document.createElement("div");
  problem.className = "lk-problem";
  problem.setAttribute("role", "alert");
  el.append(view, say, problem);

  const states = () => new Map([...view.querySelectorAll(".lk-step")].map((row) => [row.dataset.index, row.dataset.state]));

  function draw() {
    const before = states();
    const scroll = view.scrollTop;
    view.innerHTML = model.get("svg");
    view.scrollTop = scroll;
    let changed = null;
    for (const [index, state] of states()) {
      if (!before.size || before.get(index) === state) continue;
      changed = view.querySelector(`.lk-step[data-index="${index}"]`);
      changed.classList.add("lk-changed");
    }
    if (changed) reveal(changed);
  }

  function reveal(row) {
    const [box, frame] = [row.getBoundingClientRect(), view.getBoundingClientRect()];
    const next = box.height; // keep the following step visible too
    if (box.bottom + next > frame.bottom) view.scrollTop += box.bottom + next - frame.bottom;
    else if (box.top < frame.top) view.scrollTop -= frame.top - box.top;
  }

  const news = () => { say.textContent = model.get("news"); };
  const trouble = () => { problem.textContent = model.get("problem") && `✘ ${model.get("problem")}`; };

  model.on("change:svg", draw);
  model.on("change:news", news);
  model.on("change:problem", trouble);
  draw();
  news();
  trouble();
  return () => {
    model.off("change:svg", draw);
    model.off("change:news", news);
    model.off("change:problem", trouble);
  };
}

export default { render };
