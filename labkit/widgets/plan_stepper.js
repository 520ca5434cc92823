// The plan: the drawing comes from Python, here the row that changed is shown and scrolled into view.

function render({ model, el }) {
  el.classList.add("lk-board");
  const view = document.createElement("div");
  view.className = "lk-view lk-plan";
  view.tabIndex = 0; // a long plan scrolls with the arrow keys
  view.dataset.lmSuppressShortcuts = "true";
  view.setAttribute("role", "group");
  view.setAttribute("aria-label", "Passi del piano");
  const more = document.createElement("div");
  more.className = "lk-more";
  more.setAttribute("aria-hidden", "true"); // who reads the drawing by ear has all the steps anyway
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  const problem = document.createElement("div");
  problem.className = "lk-problem";
  problem.setAttribute("role", "alert");
  el.append(view, more, say, problem);

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
    hint();
  }

  // How many steps are outside the frame, and on which side.
  function hint() {
    const frame = view.getBoundingClientRect();
    const rows = [...view.querySelectorAll(".lk-step")].map((row) => row.getBoundingClientRect());
    const below = rows.filter((box) => box.bottom > frame.bottom + 2).length;
    const above = rows.filter((box) => box.top < frame.top - 2).length;
    const steps = (count) => (count === 1 ? "un altro passo" : `altri ${count} passi`);
    const long = view.scrollHeight > view.clientHeight + 2;
    view.classList.toggle("lk-long", long);
    more.hidden = !long;
    more.classList.toggle("lk-end", !below);
    more.textContent = below ? `▼ scorri: ${steps(below)} sotto` : `▲ scorri: ${steps(above)} sopra`;
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
  view.addEventListener("scroll", hint, { passive: true });
  const sized = new ResizeObserver(hint); // the drawing has no size until it is on the page
  sized.observe(view);
  draw();
  news();
  trouble();
  return () => {
    sized.disconnect();
    model.off("change:svg", draw);
    model.off("change:news", news);
    model.off("change:problem", trouble);
  };
}

export default { render };
