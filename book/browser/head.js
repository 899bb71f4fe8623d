// The head: logistic regression on the features, with an L2 penalty. Two classes, 0 and 1.

export const PENALTY = 0.01, STEPS = 3000;
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/**
 * Train a head. Its weights are a sum of the training images' features, so the sum's coefficients are trained: with few
 * images that is quicker, and the same. The loss is the mean cross-entropy plus PENALTY / 2 times the squared weights.
 */
export function train(features, labels) {
  const n = features.length;
  const mean = features[0].map((_, c) => features.reduce((sum, row) => sum + row[c], 0) / n);
  const squares = features.reduce((sum, row) => sum + row.reduce((own, x, c) => own + (x - mean[c]) ** 2, 0), 0);
  const spread = Math.sqrt(squares / n) + 1e-9; // one for all: a feature that few images know must not count most
  const scaled = (row) => row.map((x, c) => (x - mean[c]) / spread);
  const rows = features.map(scaled), alike = rows.map((a) => rows.map((b) => dot(a, b)));
  const widest = Math.max(...alike.map((row) => row.reduce((sum, x) => sum + Math.abs(x), 0)), n);
  const rate = 1 / (widest / (2 * n) + PENALTY);
  let share = new Array(n).fill(0), bias = 0;
  for (let step = 0; step < STEPS; step++) {
    const error = alike.map((row, i) => (sigmoid(dot(row, share) + bias) - labels[i]) / n);
    share = share.map((a, i) => a - rate * (error[i] + PENALTY * a));
    bias -= rate * error.reduce((sum, e) => sum + e, 0);
  }
  const weights = mean.map((_, c) => rows.reduce((sum, row, i) => sum + share[i] * row[c], 0));
  const logit = (row) => dot(scaled(row), weights) + bias;
  return {
    probability: (row) => sigmoid(logit(row)),
    /** The logit's part of each place in the feature maps; their mean is the logit. */
    evidence: ({ map, places }) =>
      Array.from({ length: places }, (_, p) => logit(mean.map((_, c) => map[c * places + p]))),
  };
}

/** How many images are right if each is predicted by a head that was trained without it. */
export function leftOut(features, labels) {
  return labels.map((label, i) => {
    const others = labels.map((_, k) => k).filter((k) => k !== i);
    const known = others.map((k) => labels[k]);
    if (new Set(known).size < 2) return false;
    const head = train(others.map((k) => features[k]), known);
    return head.probability(features[i]) >= 0.5 === (label === 1);
  });
}
