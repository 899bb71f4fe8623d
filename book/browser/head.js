// The head: logistic regression on the features, with an L2 penalty; both kinds count the same. Two kinds, 0 and 1.

export const PENALTY = 0.01, STEPS = 5000;
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The products of each image's features with each other's. */
export const products = (features) => features.map((a) => features.map((b) => dot(a, b)));

/** How much each image counts, so that both kinds count a half. */
function shares(labels) {
  const second = labels.filter((label) => label === 1).length;
  return labels.map((label) => 0.5 / (label ? second : labels.length - second));
}

/**
 * Train a head on the images `rows`. Its weights are a sum of these images' features, less their mean, so the sum's
 * coefficients are trained: for that the products of features are enough. The loss is the mean cross-entropy plus
 * PENALTY / 2 times the squared weights. Gradient descent ends when the logits no longer change.
 */
export function fit(product, labels, rows) {
  const known = rows.map((i) => labels[i]), share = shares(known);
  const toMean = (i) => dot(rows.map((j) => product[i][j]), share);
  const means = rows.map(toMean), squared = dot(means, share); // of the mean with each image, and with itself
  const spread = dot(rows.map((i, a) => product[i][i] - 2 * means[a] + squared), share) + 1e-12;
  const alike = rows.map((i, a) => rows.map((j, b) => (product[i][j] - means[a] - means[b] + squared) / spread));
  const steepest = 0.25 * Math.max(...alike.map((row, a) =>
    row.reduce((sum, x, b) => sum + (Math.abs(x) + 1) * Math.sqrt(share[a] * share[b]), 0)));
  const rate = 1 / (steepest + PENALTY);
  let part = rows.map(() => 0), bias = 0, before = rows.map(() => 0);
  for (let step = 0; step < STEPS; step++) {
    const logits = alike.map((row) => dot(row, part) + bias);
    const error = logits.map((x, a) => share[a] * (sigmoid(x) - known[a]));
    part = part.map((x, a) => x - rate * (error[a] + PENALTY * x));
    bias -= rate * error.reduce((sum, x) => sum + x, 0);
    if (step && logits.every((x, a) => Math.abs(x - before[a]) < 1e-9)) break;
    before = logits;
  }
  /** The logit of an image whose products with all others are known. */
  const logit = (i) => {
    const mine = toMean(i);
    return rows.reduce((sum, j, b) => sum + part[b] * (product[i][j] - mine - means[b] + squared), 0) / spread + bias;
  };
  return { part, bias, spread: Math.sqrt(spread), share, logit };
}

/** A head for new images: their probability of being the second kind, and where the evidence is. */
export function head(features, labels, product) {
  const rows = labels.map((_, i) => i), { part, bias, spread, share } = fit(product, labels, rows);
  const mean = features[0].map((_, c) => rows.reduce((sum, i) => sum + share[i] * features[i][c], 0));
  const weights = mean.map((m, c) => rows.reduce((sum, i) => sum + part[i] * (features[i][c] - m), 0) / spread ** 2);
  const logit = (row) => dot(weights, row.map((x, c) => x - mean[c])) + bias;
  return {
    probability: (row) => sigmoid(logit(row)),
    /** The logit's part of each place in the feature maps; their mean is the logit. */
    evidence: ({ map, places }) =>
      Array.from({ length: places }, (_, p) => logit(mean.map((_, c) => map[c * places + p]))),
  };
}

/** Whether image `i` is right if it is predicted by a head that saw neither it nor one image of the other kind. */
export function rightUnseen(product, labels, i) {
  const own = labels.map((_, k) => k).filter((k) => labels[k] === labels[i]);
  const other = labels.map((_, k) => k).filter((k) => labels[k] !== labels[i]);
  const partner = other[own.indexOf(i) % other.length];
  const { logit } = fit(product, labels, labels.map((_, k) => k).filter((k) => k !== i && k !== partner));
  return logit(i) > 0 === (labels[i] === 1);
}
