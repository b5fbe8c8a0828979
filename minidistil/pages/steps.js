"use strict";
/* The page of steps.html: a slider walks forward through the steps of a model and back. */

const data = JSON.parse(document.getElementById("data").textContent);
const [model, teacher] = data.models, count = model.steps.length;
const find = (id) => document.getElementById(id);
const stagesOf = (one) => [...new Set(one.steps.map((step) => step.stage))];
const POINT = "Point at a cell of a map, tap it, or choose a map with Tab and a cell with the arrow keys.";
const decoded = new Map();  // of a map: its numbers, decoded once

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

const short = (name) => name.split(".").pop().replaceAll("_", " ");
const place = (name) => name.startsWith("layer.") ? `layer ${name.split(".")[1]}, ${short(name)}` : short(name);
const stageBeside = (stage) => besideOf(stage, data.pairs);
const staged = (stage) => stage.replace(".", " ");
function number(x) {
  const size = Math.abs(x);
  const text = size === 0 ? "0" : size >= 1000 || size < 0.001 ? size.toExponential(2) : size.toPrecision(4);
  return x < 0 ? `−${text}` : text;
}

function numbers(map) {
  if (!decoded.has(map)) decoded.set(map, numbersOf(map));
  return decoded.get(map);
}

// ---------------------------------------------------------------- the walk

function setUp() {
  const compared = teacher ? `, beside the teacher ${teacher.name}` : "";
  find("about").textContent = `One text goes through ${model.name}, a ${model.family} with ${model.layers} `
    + `layers${compared}, down to a loss, and the gradient of the loss comes back up through the same operations. `
    + `The loss is ${data.about}: ${number(model.loss)}`
    + (teacher ? `, of the teacher ${number(teacher.loss)}.` : ".");
  find("rule").textContent = data.rule;
  find("cuts").append(...data.cuts.map((cut) => made("li", `${cut}.`)));
  find("step").max = 2 * count - 1;
  find("step").addEventListener("input", show);
  find("back").addEventListener("click", () => walk(-1));
  find("next").addEventListener("click", () => walk(1));
  find("walk").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!by || event.target.closest("input, canvas, pre, table")) return;
    event.preventDefault();
    walk(by);
  });
  setUpOverview();
  addEventListener("resize", drawLines);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

function walk(by) {
  find("step").value = Number(find("step").value) + by;
  show();
}

function goTo(step) {
  const {backward} = placeOf(Number(find("step").value), count);
  find("step").value = backward ? 2 * count - 1 - step : step;
  show();
}

function setUpOverview() {
  data.models.forEach((one, n) => {
    const column = made("div", undefined, teacher ? "column" : "column alone");
    column.append(made("h3", teacher ? `${n ? "teacher" : "student"}: ${one.name}` : one.name));
    for (const stage of stagesOf(one)) {
      const box = made(n ? "div" : "button", staged(stage), "stage");
      box.dataset.stage = `${n} ${stage}`;
      if (n) box.className = "stage beside";
      else {
        box.type = "button";
        box.addEventListener("click", () => goTo(one.steps.findIndex((step) => step.stage === stage)));
      }
      column.append(box);
    }
    find("overview").append(column);
  });
}

function drawLines() {
  const svg = find("lines"), origin = svg.getBoundingClientRect();
  svg.replaceChildren();
  if (!teacher) return;
  const here = model.steps[placeOf(Number(find("step").value), count).step].stage;
  for (const stage of stagesOf(model)) {
    const [from, to] = [`0 ${stage}`, `1 ${stageBeside(stage)}`].map((name) =>
      document.querySelector(`[data-stage="${name}"]`)?.getBoundingClientRect());
    if (!to) continue;
    const line = document.createElementNS(svg.namespaceURI, "path");
    line.setAttribute("d", `M${from.right - origin.left} ${from.top + from.height / 2 - origin.top}`
      + `L${to.left - origin.left} ${to.top + to.height / 2 - origin.top}`);
    if (stage === here) line.setAttribute("class", "here");
    svg.append(line);
  }
}

// ---------------------------------------------------------------- a step

function show() {
  const {step: at, backward} = placeOf(Number(find("step").value), count);
  const step = model.steps[at];
  const text = `${backward ? "backward ↑" : "forward ↓"} ${at + 1} of ${count}: ${place(step.name)}`;
  find("where").textContent = text;
  find("step").setAttribute("aria-valuetext", text);
  find("back").disabled = Number(find("step").value) === 0;
  find("next").disabled = Number(find("step").value) === 2 * count - 1;
  find("title").textContent = `${step.what[0].toUpperCase()}${step.what.slice(1)}`;
  const readers = model.steps.filter((other) => other.reads.includes(step.name)).map((other) => other.name);
  find("wiring").textContent = `${place(step.name)}: ${step.shape.join(" × ")} number${Math.max(...step.shape) > 1 ? "s" : ""}, computed from `
    + `${step.reads.map(place).join(" and ") || "the text"}. `
    + (readers.length ? `Its gradient comes from ${readers.map(place).join(", ")}.` : "Its gradient with respect to itself is 1.");
  Object.assign(find("cell"), {className: "", textContent: POINT});
  showStages(at, step.stage, backward);
  showOps(at, step.stage);
  const [forward, back] = find(`math-${step.op}`).content.cloneNode(true).children;
  document.querySelector("#forward-rule .math").replaceChildren(forward);
  document.querySelector("#backward-rule .math").replaceChildren(back);
  find("forward-rule").classList.toggle("now", !backward);
  find("backward-rule").classList.toggle("now", backward);
  showMaps(step, backward);
  for (const way of ["forward", "backward"]) showCode(way, data.code[step.op][way]);
}

function showStages(at, here, backward) {
  document.querySelectorAll("[data-stage]").forEach((box) => {
    const [n, stage] = box.dataset.stage.split(" ");
    const own = n === "0" && stage === here;
    box.textContent = staged(stage) + (own ? (backward ? " ↑" : " ↓") : "");
    if (n === "1") {
      box.classList.toggle("here", stage === stageBeside(here));
      return;
    }
    const steps = model.steps.map((step, k) => step.stage === stage ? k : -1).filter((k) => k >= 0);
    box.classList.toggle("returned", backward && steps[0] >= at);
    box.classList.toggle("went", backward ? steps[0] < at : steps[0] <= at);
    if (own) box.setAttribute("aria-current", "step");
    else box.removeAttribute("aria-current");
  });
  drawLines();
}

function showOps(at, stage) {
  const buttons = [];
  model.steps.forEach((step, k) => {
    if (step.stage !== stage) return;
    const button = made("button", short(step.name));
    button.type = "button";
    button.addEventListener("click", () => goTo(k));
    if (k === at) button.setAttribute("aria-current", "step");
    buttons.push(button);
  });
  const focused = document.activeElement.parentNode === find("ops");
  find("ops").replaceChildren(...buttons);
  if (focused) find("ops").querySelector("[aria-current]").focus();
}

function showCode(way, pieces) {
  const box = find(`${way}-code`);
  box.replaceChildren(made("h3", way));
  if (!pieces.length) box.append(made("p", "No code of its own.", "quiet"));
  for (const {place: where, text} of pieces) {
    const code = made("pre", text);
    code.tabIndex = 0;
    box.append(made("div", where, "quiet"), code);
  }
}

// ---------------------------------------------------------------- maps

function showMaps(step, backward) {
  const parts = [mapsOf(step, teacher ? "student" : "", backward)];
  if (teacher) {
    const name = besideOf(step.name, data.pairs);
    const other = teacher.steps.find((one) => one.name === name);
    parts.push(other ? mapsOf(other, "teacher", backward)
      : made("p", "The teacher has no such step.", "quiet"));
  }
  find("maps").replaceChildren(...parts);
}

function mapsOf(step, role, backward) {
  const box = made("div"), sides = made("div", undefined, "sides"), marks = [];
  if (role) box.append(made("h3", `${role}: ${place(step.name)}`, "whole"));
  for (const [kind, map] of [["value", step.value], ["gradient", step.gradient]]) {
    const figure = made("figure"), now = (kind === "gradient") === backward;
    figure.className = now ? "now" : kind === "gradient" ? "later" : "";
    const caption = made("figcaption");
    const single = map.shape.every((size) => size === 1);
    caption.append(made("b", kind));
    if (!single) caption.append(` ${map.shape.join(" × ").replace(/^1 × /, "")} shown; all: `
      + `${number(map.least)} to ${number(map.most)}, norm ${number(map.norm)}`);
    figure.append(caption);
    if (single) figure.append(made("div", number(numbers(map)[0]), "number"));
    else figure.append(pictures(step, kind, map, marks), ...legend(map), table(step, map));
    sides.append(figure);
  }
  box.append(sides);
  return box;
}

function pictures(step, kind, map, marks) {
  const [heads, rows] = map.shape;
  if (step.shape.length === 3) {
    const all = made("div", undefined, "heads");
    for (let h = 0; h < heads; h++) {
      const one = made("div");
      one.append(made("span", `head ${h}`), picture(step, kind, map, h, marks));
      all.append(one);
    }
    return all;
  }
  const box = made("div", undefined, "rows"), names = made("ul", undefined, "names");
  const single = step.shape.length === 1;
  names.append(...(single ? ["text"] : data.tokens.slice(0, rows)).map((token) => made("li", token)));
  names.setAttribute("aria-hidden", "true");
  const drawn = picture(step, kind, map, 0, marks);
  drawn.style.height = `${1.1 * rows}rem`;
  box.append(names, drawn);
  return box;
}

function picture(step, kind, map, head, marks) {
  const [, rows, columns] = map.shape, values = numbers(map);
  const box = made("div", undefined, "map"), canvas = made("canvas"), mark = made("div", undefined, "mark");
  [canvas.width, canvas.height, canvas.tabIndex, mark.hidden] = [columns, rows, 0, true];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${kind} of ${place(step.name)}`
    + `${step.shape.length === 3 ? `, head ${head}` : ""}: ${rows} by ${columns} numbers from `
    + `${number(map.least)} to ${number(map.most)}; arrow keys choose one`);
  const pixels = canvas.getContext("2d").createImageData(columns, rows), colours = palette();
  for (let n = 0; n < rows * columns; n++) {
    const share = values[head * rows * columns + n] / map.top;
    const side = share < 0 ? colours.low : colours.high, much = Math.abs(share) ** 0.6;
    for (let c = 0; c < 3; c++) pixels.data[4 * n + c] = colours.paper[c] + much * (side[c] - colours.paper[c]);
    pixels.data[4 * n + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  let [row, column] = [0, 0];
  const choose = (r, c) => {
    [row, column] = [Math.min(rows - 1, Math.max(0, r)), Math.min(columns - 1, Math.max(0, c))];
    find("cell").className = "chosen";
    find("cell").textContent = read(step, head, row, column);
    for (const other of marks) {
      other.mark.hidden = other.head !== head;
      Object.assign(other.mark.style, {left: `${100 * column / columns}%`, top: `${100 * row / rows}%`,
        width: `${100 / columns}%`, height: `${100 / rows}%`});
    }
  };
  const point = (event) => {
    const area = canvas.getBoundingClientRect();
    choose(Math.floor((event.clientY - area.top) / area.height * rows),
      Math.floor((event.clientX - area.left) / area.width * columns));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const by = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!by) return;
    event.preventDefault();
    choose(row + by[0], column + by[1]);
  });
  marks.push({mark, head});
  box.append(canvas, mark);
  return box;
}

function read(step, head, row, column) {
  const [, rows, columns] = step.value.shape, n = (head * rows + row) * columns + column;
  const [value, gradient] = [step.value, step.gradient].map((map) => {
    const x = numbers(map)[n], error = map.top / (2 * LEVELS);
    return x === 0 ? `0 ± ${number(error)}` : number(x);
  });
  return `${place(step.name)}, ${named(step, head, row, column)}: value ${value}, gradient ${gradient}`;
}

function named(step, head, row, column) {
  const token = (t) => `“${data.tokens[t]}”`;
  if (step.shape.length === 3) return `head ${head}, query ${token(row)}, key ${token(column)}`;
  const answer = step.labels ? `“${step.labels[column]}”` : `channel ${step.columns[column]}`;
  return step.shape.length === 1 ? answer : `${token(row)}, ${answer}`;
}

function palette() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim().replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3")
    .match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
  return {paper: colour("--paper"), low: colour("--teacher"), high: colour("--student")};
}

function legend(map) {
  const scale = made("div", undefined, "scale"), ends = made("div", undefined, "ends");
  scale.style.background = "linear-gradient(to right, var(--teacher), var(--paper), var(--student))";
  ends.append(...[-map.top, 0, map.top].map((x) => made("span", number(x))));
  return [scale, ends];
}

function table(step, map) {
  const box = made("details");
  box.append(made("summary", "as a table"));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    const [heads, rows, columns] = map.shape, values = numbers(map);
    for (let h = 0; h < heads; h++) {
      const whole = made("table"), head = made("tr");
      whole.tabIndex = 0;
      if (step.shape.length === 3) whole.append(made("caption", `head ${h}`));
      head.append(made("td"), ...Array.from({length: columns}, (_, c) => columnHead(step, c)));
      whole.append(head);
      for (let r = 0; r < rows; r++) {
        const line = made("tr"), name = made("th", step.shape.length === 1 ? "text" : data.tokens[r]);
        name.scope = "row";
        line.append(name);
        for (let c = 0; c < columns; c++) line.append(made("td", number(values[(h * rows + r) * columns + c])));
        whole.append(line);
      }
      box.append(whole);
    }
  });
  return box;
}

function columnHead(step, column) {
  const text = step.shape.length === 3 ? data.tokens[column] : step.labels ? step.labels[column] : step.columns[column];
  const head = made("th", text);
  head.scope = "col";
  return head;
}

setUp();
