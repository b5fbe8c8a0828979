"use strict";
/* Losses and gradients at one place, by the formulas of minidistil/distilbert.py in float64.

   place      words, zS, zT, label, cos, others, highest, sums, as compare_page.py writes them
   settings   tauIndex, kl, label, cos (the weights), reverse (false: KL(p_t ‖ p_s))

   A name that ends in Rest is the total of all words that are not in place.words. */

function logSum(values) {
  const top = Math.max(...values);
  return top === -Infinity ? top : top + Math.log(values.reduce((a, v) => a + Math.exp(v - top), 0));
}

/* Probabilities at temperature tau; ln of the normaliser; the share of the other words. */
function softened(z, tau, logRest) {
  const scaled = z.map((v) => v / tau);
  const logZ = logSum(logRest === null ? scaled : [...scaled, logRest]);
  return {
    logP: scaled.map((v) => v - logZ), p: scaled.map((v) => Math.exp(v - logZ)), logZ,
    rest: logRest === null ? 0 : Math.exp(logRest - logZ),
  };
}

function lossesAt(place, settings, taus) {
  const tau = taus[settings.tauIndex], one = taus.indexOf(1);
  const sums = place.others ? place.sums[settings.tauIndex] : null;
  const hardSums = place.others ? place.sums[one] : null;
  const s = softened(place.zS, tau, sums && sums[0]), t = softened(place.zT, tau, sums && sums[1]);
  const hard = softened(place.zS, 1, hardSums && hardSums[0]);
  const divergence = settings.reverse ? backward(place, tau, s, t, sums) : forward(place, tau, s, t, sums);

  const labelled = place.label >= 0, a = settings.kl, b = labelled ? settings.label : 0;
  const label = labelled ? -hard.logP[place.label] : null;
  const d = place.words.map((_, v) => a * tau * divergence.d[v]
    + b * (hard.p[v] - (v === place.label ? 1 : 0)));
  const highest = place.others ? Math.exp(place.highest - hard.logZ) : 0;
  const kl = tau * tau * divergence.kl;
  const cos = place.cos;
  return {
    tau, pS: s.p, pT: t.p, restS: s.rest, restT: t.rest, kl, label, cos, d,
    dRest: a * tau * divergence.dRest + b * hard.rest,
    least: a * tau * divergence.least, most: a * tau * divergence.most + b * highest,
    total: a * kl + b * (label ?? 0) + (cos === null ? 0 : settings.cos * cos),
  };
}

/* KL(p_t ‖ p_s) = Σ p_t (ln p_t − ln p_s); its gradient is (p_s − p_t)/τ. */
function forward(place, tau, s, t, sums) {
  let kl = s.logZ - t.logZ;
  place.words.forEach((_, v) => { kl += t.p[v] * (place.zT[v] - place.zS[v]) / tau; });
  if (sums) kl += t.rest * sums[2] / tau;
  return {
    kl, d: s.p.map((p, v) => p - t.p[v]), dRest: s.rest - t.rest,
    least: sums ? sums[4] : 0, most: sums ? sums[5] : 0,
  };
}

/* KL(p_s ‖ p_t) = Σ p_s (ln p_s − ln p_t); its gradient is p_s (ln p_s − ln p_t − KL)/τ. */
function backward(place, tau, s, t, sums) {
  let kl = t.logZ - s.logZ, restRatio = 0;
  place.words.forEach((_, v) => { kl += s.p[v] * (place.zS[v] - place.zT[v]) / tau; });
  if (sums) {
    kl -= s.rest * sums[3] / tau;
    restRatio = s.rest * (t.logZ - s.logZ - sums[3] / tau);
  }
  return {
    kl, d: s.p.map((p, v) => p * (s.logP[v] - t.logP[v] - kl)), dRest: restRatio - s.rest * kl,
    least: sums ? sums[6] : 0, most: sums ? sums[7] : 0,
  };
}

if (typeof module !== "undefined") module.exports = {lossesAt};
