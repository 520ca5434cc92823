// The diagnosis: the table comes from Python, here each command gets a button that copies it.

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // Without https the browser has no clipboard: select the words and use the old command.
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function render({ model, el }) {
  el.classList.add("lk-board");
  const view = document.createElement("div");
  const say = document.createElement("div");
  say.className = "lk-say";
  say.setAttribute("role", "status");
  say.setAttribute("aria-live", "polite");
  el.append(view, say);

  function draw() {
    view.innerHTML = model.get("html");
    say.textContent = "";
    for (const code of view.querySelectorAll("td code")) {
      const row = document.createElement("div");
      row.className = "lk-command";
      const button = document.createElement("button");
      button.type = "button";
      button.className = "lk-copy";
      button.textContent = "Copia";
      button.setAttribute("aria-label", `Copia il comando: ${code.textContent}`);
      button.addEventListener("click", async () => {
        say.textContent = (await copy(code))
          ? `✔ Copiato: ${code.textContent}`
          : "✘ Il browser non lascia copiare: il comando è selezionato, usa Ctrl+C.";
      });
      code.replaceWith(row);
      row.append(code, button);
      if (row.previousSibling?.nodeName === "BR") row.previousSibling.remove(); // only the still table needs it
    }
  }

  model.on("change:html", draw);
  draw();
  return () => model.off("change:html", draw);
}

export default { render };
