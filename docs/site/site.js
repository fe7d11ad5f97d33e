// Sorting, filtering and comparing, on pages that are whole without it.
"use strict";

for (const table of document.querySelectorAll("table[data-sortable]")) makeSortable(table);
for (const form of document.querySelectorAll("form[data-filters]")) makeFilter(form);
for (const viewer of document.querySelectorAll(".viewer")) makeViewer(viewer);

// Rows are sorted within their group: first the good end of a quantity, then the other. What is missing comes last.
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const first = "text" in head.dataset || head.dataset.better === "low" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const compare = "text" in head.dataset
        ? (a, b) => sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent)
        : (a, b) => byNumber(number(a.cells[column]), number(b.cells[column]), sign);
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        body.append(...rows.sort(compare));
      }
    });
  });
}

function number(cell) {
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (text === "" || text === "nan") return NaN;
  return text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
}

function byNumber(a, b, sign) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return a === b ? 0 : sign * (a < b ? -1 : 1);
}

// A control filters by the data attribute of its name; one that `data-shows` brings rows that are else hidden.
function makeFilter(form) {
  const table = document.getElementById(form.dataset.filters);
  const said = form.querySelector("output");
  const passes = (row, control) => {
    const own = row.dataset[control.name];
    if ("shows" in control.dataset) return control.checked || own === undefined;
    if (control.value === "") return true;
    if (control.type === "search") return row.textContent.toLowerCase().includes(control.value.toLowerCase());
    if ("most" in control.dataset) return own !== "" && Number(own) <= Number(control.value);
    return own === control.value;
  };
  const apply = () => {
    const controls = [...form.elements].filter((control) => control.name);
    let shown = 0, all = 0;
    for (const body of table.tBodies) {
      let left = 0;
      for (const row of body.rows) {
        if (row.classList.contains("group")) continue;
        row.hidden = !controls.every((control) => passes(row, control));
        left += !row.hidden;
        all += 1;
      }
      body.hidden = left === 0;
      shown += left;
    }
    for (const toggle of form.querySelectorAll("[data-toggles]"))
      table.classList.toggle(toggle.dataset.toggles, toggle.checked);
    said.textContent = `${shown} of ${all} rows`;
  };
  for (const event of ["input", "change"]) form.addEventListener(event, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
}

// Two pictures under a slider, and all of a run's beside them; one zoom and one place for all.
function makeViewer(viewer) {
  const scenes = JSON.parse(viewer.querySelector("script").textContent);
  const root = viewer.dataset.root;
  const make = (tag, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };
  const options = (select, names, chosen) =>
    select.replaceChildren(...names.map((name, i) => new Option(name, i, false, i === chosen)));
  const layer = (kind) => make("div", { className: `layer ${kind}` }, make("img", { draggable: false }));
  const control = (name, element) => make("label", {}, name, element);
  const scene = make("select"), left = make("select"), right = make("select"), run = make("select");
  const wipe = make("input", { type: "range", min: 0, max: 100, value: 50 });
  const zoom = make("input", { type: "range", min: 1, max: 16, step: 0.5, value: 1 });
  const reset = make("button", { type: "button", textContent: "Reset view" });
  const stage = make("div", { className: "view stage", tabIndex: 0 }, layer("under"), layer("over"));
  stage.setAttribute("role", "img");
  const panels = make("div", { className: "panels" });
  viewer.append(
    make("div", { className: "controls" }, control("Scene", scene), control("Left", left), control("Right", right),
      control("Slider", wipe), control("Zoom", zoom), reset),
    stage,
    make("p", { className: "quiet", textContent: "On the picture: arrows move it, + and − zoom, < and > move the slider; drag to move." }),
    make("div", { className: "controls" }, control("All pictures of", run)),
    panels,
  );

  const place = { x: 0, y: 0 };
  let pictures = [];
  const look = () => {
    const most = 50 * (1 - 1 / zoom.value); // no view beyond the picture's edge
    for (const axis of ["x", "y"]) place[axis] = Math.min(most, Math.max(-most, place[axis]));
    viewer.style.setProperty("--zoom", zoom.value);
    viewer.style.setProperty("--x", place.x);
    viewer.style.setProperty("--y", place.y);
    viewer.style.setProperty("--wipe", `${wipe.value}%`);
  };
  const show = (image, picture) => Object.assign(image, { src: root + picture.path, alt: picture.name });
  const compare = () => {
    const [under, over] = [pictures[left.value], pictures[right.value]];
    show(stage.querySelector(".under img"), under);
    show(stage.querySelector(".over img"), over);
    stage.setAttribute("aria-label", `${under.name} left of the slider, ${over.name} right of it`);
  };
  const list = () => {
    const { inputs, runs } = scenes[scene.value];
    const own = runs[run.value];
    const named = ([name, path]) => ({ name: name.includes("error") && own.top !== null ? `${name}, 0 to ${own.top.toPrecision(3)}` : name, path });
    const outputs = Object.entries(own.panels), known = Object.entries(inputs);
    const order = [...known.filter(([n]) => n !== "reference"), ...outputs.slice(0, 1), ...known.filter(([n]) => n === "reference"), ...outputs.slice(1)];
    panels.replaceChildren(...order.map(named).map((picture) => make("figure", {},
      make("div", { className: "view" }, make("div", { className: "layer" }, show(make("img", { draggable: false }), picture))),
      make("figcaption", { textContent: picture.name }))));
  };
  const open = () => {
    const { inputs, runs } = scenes[scene.value];
    const of = (label, found) => Object.entries(found).map(([name, path]) => ({ name: label + name, path }));
    pictures = [...of("", inputs), ...runs.flatMap((r) => of(`${r.label}: `, r.panels))];
    const names = pictures.map((p) => p.name);
    const first = Object.keys(inputs).length;
    options(left, names, names.includes("reference") ? names.indexOf("reference") : 0);
    options(right, names, Math.min(first, names.length - 1));
    options(run, runs.map((r) => r.label), 0);
    compare();
    list();
    look();
  };
  options(scene, scenes.map((s) => s.name), 0);
  scene.addEventListener("change", open);
  for (const select of [left, right]) select.addEventListener("change", compare);
  run.addEventListener("change", list);
  for (const range of [wipe, zoom]) range.addEventListener("input", look);
  reset.addEventListener("click", () => {
    Object.assign(place, { x: 0, y: 0 });
    zoom.value = 1;
    wipe.value = 50;
    look();
  });
  stage.addEventListener("keydown", (event) => {
    const step = 8 / zoom.value;
    const keys = {
      ArrowLeft: () => (place.x += step), ArrowRight: () => (place.x -= step),
      ArrowUp: () => (place.y += step), ArrowDown: () => (place.y -= step),
      "+": () => zoom.stepUp(2), "-": () => zoom.stepDown(2),
      "<": () => wipe.stepDown(5), ">": () => wipe.stepUp(5),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    look();
  });
  viewer.addEventListener("pointermove", (event) => {
    const view = event.target.closest(".view");
    if (!view || !(event.buttons & 1)) return;
    place.x += (100 * event.movementX) / view.clientWidth / zoom.value;
    place.y += (100 * event.movementY) / view.clientHeight / zoom.value;
    look();
  });
  open();
}
