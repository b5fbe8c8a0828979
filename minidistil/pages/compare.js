"use strict";
/* The page of compare.html: reads the sliders, shows lossesAt of every place. */

const data = JSON.parse(document.getElementById("data").textContent);
const SHOWN = 10, MOVES = 5;  // words of the table, and of each list
const find = (id) => document.getElementById(id);
const DIALS = ["kl", "label", "cos"];
let here = 0;

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

const percent = (p) => (p >= 0.01 ? (100 * p).toFixed(1) : p >= 1e-6 ? Number((100 * p).toPrecision(2))
  : (100 * p).toExponential(0)) + "%";
const number = (x) => x === 0 ? "0" : Math.abs(x) >= 0.001 ? x.toFixed(4) : x.toExponential(1);
const signed = (x) => (x < 0 ? "−" : "+") + number(Math.abs(x));
const titled = (place) => place.piece === null ? `text ${place.text + 1}`
  : `“${data.texts[place.text][place.piece]}”`;

function settings() {
  const read = {tauIndex: Number(find("tau").value), reverse: find("direction").value === "reverse"};
  for (const name of DIALS) read[name] = Number(find(name).value);
  return read;
}

function setUp() {
  const words = data.answers === "words";
  const named = (name, role) => name === role ? `the ${role}` : `${name} (the ${role})`;
  find("about").textContent = `At each place of the texts below, ${named(data.teacher, "teacher")} and `
    + `${named(data.student, "student")} give every ${words ? "word of the vocabulary" : "class"} a `
    + `probability. The sliders set the distillation loss; the numbers follow.`;
  find("texts-title").textContent = data.texts.length > 1 ? "Texts" : "The text";
  find("texts-help").textContent = `Choose a place. ${data.reads} The deeper its colour, the larger the loss there.`;
  find("label-name").textContent = `weight of the ${data.label}`;
  find("answers-name").textContent = words ? "word" : "class";
  find("tau").max = data.taus.length - 1;
  const values = {tau: data.taus.indexOf(data.start.tau)};
  for (const name of DIALS) {
    values[name] = data.start[name];
    find(name).max = Math.max(10, 2 * values[name]);
    find(name).step = Number.isInteger(10 * values[name]) ? 0.1 : "any";
  }
  for (const [name, value] of Object.entries(values)) find(name).defaultValue = find(name).value = value;
  if (data.places.every((place) => place.cos === null)) find("cos-dial").hidden = true;
  if (data.places.every((place) => place.label < 0)) find("label").disabled = true;
  data.texts.forEach(setUpText);
  find("settings").addEventListener("input", show);
  find("settings").addEventListener("reset", () => setTimeout(show));
  find("settings").addEventListener("submit", (event) => event.preventDefault());
  find("texts").addEventListener("keydown", moveAlong);
  show();
}

function setUpText(pieces, text) {
  const line = made("div", undefined, "sentence"), asked = new Map();
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", `text ${text + 1}`);
  data.places.forEach((place, n) => { if (place.text === text) asked.set(place.piece, n); });
  if (asked.has(null)) line.append(button(asked.get(null), pieces.join(" "), "whole"));
  else pieces.forEach((piece, column) => {
    line.append(asked.has(column) ? button(asked.get(column), piece) : made("span", piece), " ");
  });
  find("texts").append(line);
}

function button(n, text, name) {
  const element = made("button", text, name);
  element.type = "button";
  element.dataset.place = n;
  element.addEventListener("click", () => { here = n; show(); });
  return element;
}

function moveAlong(event) {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  const next = here + step;
  if (!step || !data.places[next]) return;
  event.preventDefault();
  here = next;
  show();
  document.querySelector(`[data-place="${here}"]`).focus();
}

function show() {
  const now = settings();
  find("tau-is").textContent = data.taus[now.tauIndex];
  find("tau").setAttribute("aria-valuetext", data.taus[now.tauIndex]);
  for (const name of DIALS) find(`${name}-is`).textContent = Number(now[name].toFixed(3));
  const all = data.places.map((place) => lossesAt(place, now, data.taus));
  const largest = Math.max(...all.map((found) => found.total), 1e-9);
  document.querySelectorAll("[data-place]").forEach((element) => {
    const n = Number(element.dataset.place);
    element.style.setProperty("--heat", Math.max(0, all[n].total / largest).toFixed(3));
    element.setAttribute("aria-current", n === here);
    element.title = `loss ${number(all[n].total)}`;
  });
  const mean = all.reduce((sum, found) => sum + found.total, 0) / all.length;
  find("mean").textContent = `Mean loss of the ${all.length} place${all.length > 1 ? "s" : ""}: ${number(mean)}`;
  showPlace(data.places[here], all[here], now);
}

function showPlace(place, found, now) {
  find("place-title").textContent = `At ${titled(place)}`;
  const best = (p) => place.words[p.indexOf(Math.max(...p))];
  find("place-says").textContent = `The teacher’s first guess is “${best(found.pT)}”, the student’s `
    + `“${best(found.pS)}”.` + (place.label < 0 ? "" : ` The ${data.label} is “${place.words[place.label]}”.`);
  const parts = [[now.reverse ? "τ²·KL(pₛ ‖ pₜ)" : "τ²·KL(pₜ ‖ pₛ)", found.kl, now.kl]];
  if (found.label !== null) parts.push([data.label, found.label, now.label]);
  if (found.cos !== null) parts.push(["1 − cos", found.cos, now.cos]);
  const rows = parts.map(([name, value, weight]) => row(name, number(value), number(value * weight)));
  rows.push(row("loss", "", number(found.total)));
  document.querySelector("#losses tbody").replaceChildren(...rows);
  find("slope").textContent = found.cos === null ? ""
    : `The gradient of the cosine loss enters at the student’s last hidden state, with norm ${number(now.cos * place.cosSlope)}.`;
  showBars(place, found);
  showMoves(place, found);
}

function row(name, ...cells) {
  const line = made("tr"), head = made("th", name);
  head.scope = "row";
  line.append(head, ...cells.map((cell) => cell instanceof Node ? cell : made("td", cell)));
  return line;
}

function showBars(place, found) {
  const likely = place.words.map((_, v) => v)
    .sort((a, b) => Math.max(found.pS[b], found.pT[b]) - Math.max(found.pS[a], found.pT[a]));
  const shown = likely.slice(0, SHOWN);
  if (place.label >= 0 && !shown.includes(place.label)) shown.push(place.label);
  const longest = Math.max(...shown.map((v) => Math.max(found.pS[v], found.pT[v])));
  const steepest = Math.max(...shown.map((v) => Math.abs(found.d[v])), 1e-12);
  const rows = shown.map((v) => {
    const right = v === place.label, half = Math.abs(found.d[v]) / steepest / 2;
    const line = row(right ? `${place.words[v]} (${data.label})` : place.words[v],
      bar(percent(found.pT[v]), "t", found.pT[v] / longest, 0),
      bar(percent(found.pS[v]), "s", found.pS[v] / longest, 0),
      found.d[v] > 0 ? bar(signed(found.d[v]), "down", half, 0.5) : bar(signed(found.d[v]), "up", half, 0.5 - half));
    if (right) line.className = "label";
    return line;
  });
  const left = likely.filter((v) => !shown.includes(v)), count = left.length + place.others;
  const sum = (values, rest) => left.reduce((total, v) => total + values[v], rest);
  if (count) rows.push(row(`the other ${count.toLocaleString("en")}`, percent(sum(found.pT, found.restT)),
    percent(sum(found.pS, found.restS)), signed(sum(found.d, found.dRest))));
  document.querySelector("#bars tbody").replaceChildren(...rows);
}

function bar(text, name, share, left) {
  const cell = made("td"), stripe = made("div", undefined, `bar ${name}`);
  stripe.style.left = `${100 * left}%`;
  stripe.style.width = `${100 * share}%`;
  cell.append(stripe, made("span", text, "number"));
  return cell;
}

function showMoves(place, found) {
  const order = place.words.map((_, v) => v).sort((a, b) => found.d[a] - found.d[b]);
  const up = order.filter((v) => found.d[v] < 0).slice(0, MOVES);
  const down = order.reverse().filter((v) => found.d[v] > 0).slice(0, MOVES);
  const list = (values) => values.map((v) => made("li", `${place.words[v]}  (${signed(-found.d[v])} × learning rate)`));
  find("raise").replaceChildren(...list(up));
  find("lower").replaceChildren(...list(down));
  find("bound").textContent = place.others
    ? `Any of the ${place.others.toLocaleString("en")} words that are in neither list nor table is raised by at most `
      + `${number(Math.max(0, -found.least))} and lowered by at most ${number(Math.max(0, found.most))}.` : "";
}

setUp();
