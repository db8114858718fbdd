for (const box of document.querySelectorAll(".mistakes:not([data-ready])")) {
  // A cell of the matrix becomes a button that opens its images; without this it stays a number.
  const { classes, columns, rows, cells } = JSON.parse(box.querySelector("script").textContent);
  const opened = box.querySelector(".opened"), table = box.querySelector("table");
  const make = (name, parent, text = "") => {
    const element = parent.appendChild(document.createElement(name));
    element.textContent = text;
    return element;
  };
  const percent = (share) => `${share >= 0.995 && share !== 1 ? ">99" : Math.round(100 * share)}%`;
  let current = null;

  const close = () => {
    if (current) current.setAttribute("aria-expanded", "false");
    opened.hidden = true;
    current = null;
  };
  const title = (cell) => {
    const [said, true_] = [classes[cell.said], classes[cell.true]];
    const kind = cell.said === cell.true ? `${true_}, recognised` : `${true_} said to be ${said}`;
    const order = cell.said === cell.true ? "the least sure" : "the surest";
    const few = cell.images.length !== cell.count;
    return `${kind}: ${few ? `${cell.images.length} of ${cell.count}` : cell.count} image`
      + `${cell.count === 1 ? "" : `s, ${order}${few ? "" : " first"}`}`;
  };
  const open = (button, cell) => {
    if (current === button) return close();
    close();
    current = button;
    button.setAttribute("aria-expanded", "true");
    opened.replaceChildren();
    opened.hidden = false;
    const head = make("p", opened);
    make("span", head, title(cell)).setAttribute("aria-live", "polite");
    make("button", head, "Close").addEventListener("click", () => { close(); button.focus(); });
    const list = make("ul", opened);
    cell.images.forEach(([number, top, right], at) => {
      const item = make("li", list), thumb = make("span", item), place = cell.start + at;
      const told = [`${classes[cell.said]} ${percent(top)}`];
      if (cell.said !== cell.true) told.push(`${classes[cell.true]} ${percent(right)}`);
      thumb.className = "thumb";
      thumb.style.backgroundSize = `${64 * columns}px ${64 * rows}px`;
      thumb.style.backgroundPosition =
        `${-64 * (place % columns)}px ${-64 * Math.floor(place / columns)}px`;
      thumb.title = `test image ${number}`;
      thumb.setAttribute("role", "img");
      thumb.setAttribute("aria-label", `${classes[cell.true]}, test image ${number}`);
      told.forEach((text) => make("div", item, text));
    });
    opened.scrollIntoView({ block: "nearest" });
  };

  const buttons = new Map();
  for (const cell of cells) {
    const place = table.tBodies[0].rows[cell.true].cells[cell.said + 1];
    const text = place.textContent;
    place.textContent = "";
    const button = make("button", place, text);
    button.type = "button";
    button.tabIndex = buttons.size ? -1 : 0;
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", title(cell));
    button.addEventListener("click", () => open(button, cell));
    button.addEventListener("focus", () => {
      buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1; });
    });
    buttons.set(`${cell.true} ${cell.said}`, button);
  }
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  table.addEventListener("keydown", (event) => {
    if (!(event.key in step)) return;
    const [down, right] = step[event.key], place = event.target.closest("td");
    let [row, column] = [place.parentNode.sectionRowIndex, place.cellIndex - 1], next;
    do {
      [row, column] = [row + down, column + right];
      next = buttons.get(`${row} ${column}`);
    } while (!next && classes[row] && classes[column]);
    if (next) next.focus();
    event.preventDefault();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !current) return;
    const button = current;
    close();
    button.focus();
  });
  box.querySelector(".hint").hidden = false;
  box.dataset.ready = "";
}
