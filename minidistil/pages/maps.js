"use strict";
/* The numbers of a map as step_page.py stores them, and the order of a walk. */

const LEVELS = 32767;

/* {numbers: base64 of int16, top}  ->  Float64Array, each within top/65534 of the model's. */
function numbersOf(map) {
  const bytes = Uint8Array.from(atob(map.numbers), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer), found = new Float64Array(bytes.length / 2);
  for (let n = 0; n < found.length; n++) found[n] = view.getInt16(2 * n, true) / LEVELS * map.top;
  return found;
}

/* Position of the slider, number of steps  ->  the step, and whether the walk goes backward. */
function placeOf(position, count) {
  return position < count ? {step: position, backward: false}
    : {step: 2 * count - 1 - position, backward: true};
}

/* The step of the teacher beside a step of the student; pairs: [[student's layer, teacher's], …]. */
function besideOf(name, pairs) {
  const [head, layer, ...rest] = name.split(".");
  if (head !== "layer") return name;
  const pair = pairs.find(([own]) => own === Number(layer));
  return pair ? ["layer", pair[1], ...rest].join(".") : null;
}

if (typeof module !== "undefined") module.exports = {numbersOf, placeOf, besideOf};
