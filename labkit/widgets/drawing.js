// A drawing: it comes from Python; here it is shown, the news read aloud, the problem told.

function render({ model, el }) {
  el.classList.add("lk-board");
  const view = document.createElement("div");
  view.className = "lk-view";
  view.dataset.lmSuppressShortcuts = "true"; // where a row takes the focus, its keys are not orders about the cells
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  const problem = document.createElement("div");
  problem.className = "lk-problem";
  problem.setAttribute("role", "alert");
  el.append(view, say, problem);

  const draw = () => { view.innerHTML = model.get("svg"); };
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
