// A question with its options: real radio buttons, so arrows, Tab and Space do what they do in every page.

function render({ model, el }) {
  el.classList.add("lk-board", "lk-choices");
  el.dataset.lmSuppressShortcuts = "true"; // the keys are for the options, not orders about the cells
  // Each view its own group: each widget loads this file again, so a counter here would give the same name twice.
  const group = `lk-choices-${Math.random().toString(36).slice(2)}`;
  const ask = document.createElement("div");
  ask.className = "lk-ask";
  ask.id = `${group}-ask`;
  const list = document.createElement("div");
  list.setAttribute("role", "radiogroup");
  list.setAttribute("aria-labelledby", ask.id);
  const press = document.createElement("button");
  press.type = "button";
  press.className = "lk-copy";
  const reply = document.createElement("div");
  reply.setAttribute("role", "status");
  reply.setAttribute("aria-live", "polite");
  el.append(ask, list, press, reply);

  function choose(index) {
    if (model.get("locked") || model.get("index") === index) return;
    model.set("index", index);
    model.save_changes();
  }

  function options() {
    list.replaceChildren(...model.get("options").map((words, index) => {
      const row = document.createElement("label");
      const radio = document.createElement("input");
      radio.type = "radio";
      radio.name = group;
      radio.addEventListener("change", () => choose(index));
      row.append(radio, words);
      return row;
    }));
  }

  function show() {
    const [index, locked] = [model.get("index"), model.get("locked")];
    ask.textContent = model.get("question");
    list.querySelectorAll("input").forEach((radio, place) => {
      radio.checked = place === index;
      radio.disabled = locked;
    });
    list.setAttribute("aria-disabled", String(locked));
    press.hidden = !model.get("action");
    press.textContent = model.get("action");
    press.disabled = index === null;
    reply.innerHTML = model.get("reply"); // escaped in Python
  }

  function answer() {
    if (model.get("action") && model.get("index") !== null) model.send({ kind: "answer" });
  }

  // Enter chooses the option that has the focus; on one already chosen it answers, as in a form.
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.type !== "radio") return;
    event.preventDefault();
    if (event.target.checked) answer();
    else event.target.click();
  });
  el.addEventListener("keydown", (event) => event.stopPropagation());
  press.addEventListener("click", answer);

  const changes = "change:question change:index change:locked change:action change:reply";
  model.on(changes, show);
  options();
  show();
  return () => model.off(changes, show);
}

export default { render };
