// The frozen network: an image file becomes its last feature maps, prepared as Pillow and torchvision do it.

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const d = Math.abs(x), a = -0.5;
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};
const UNIT = 2 ** 22; // Pillow computes with whole numbers, and so do we

/** For each output position the first input position, and whole-number weights. */
function kernels(from, to, { support, weight }) {
  const scale = from / to, wide = Math.max(scale, 1), reach = support * wide;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - reach + 0.5)), high = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({ length: high - low }, (_, k) => weight((k + low - centre + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { low, weights: weights.map((w) => Math.trunc((w / sum) * UNIT + (w < 0 ? -0.5 : 0.5))) };
  });
}

/** Resize along one axis; `step` is the distance between neighbours in `pixels`, `lines` says where the lines begin. */
function along(pixels, out, table, lines, step, outLines, outStep) {
  for (let line = 0; line < lines.length; line++)
    table.forEach(({ low, weights }, i) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = UNIT / 2, at = lines[line] + low * step + channel;
        for (const w of weights) { sum += w * pixels[at]; at += step; }
        out[outLines[line] + i * outStep + channel] = Math.min(255, Math.max(0, Math.floor(sum / UNIT)));
      }
    });
  return out;
}

const count = (n, step) => Array.from({ length: n }, (_, i) => i * step);
const halfEven = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as Python rounds

/** RGBA pixels -> RGB pixels of the resized image's central square: shorter side `resize`, then `size`. */
export function prepare({ data, width, height }, { resize, size, interpolation }) {
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = data[4 * i + c];
  const short = Math.min(width, height), w = Math.trunc((resize * width) / short), h = Math.trunc((resize * height) / short);
  const filter = FILTERS[interpolation];
  const crop = (n) => halfEven((n - size) / 2);
  const columns = kernels(width, w, filter).slice(crop(w), crop(w) + size);
  const rows = kernels(height, h, filter).slice(crop(h), crop(h) + size);
  const flat = new Uint8ClampedArray(3 * size * height);
  along(rgb, flat, columns, count(height, 3 * width), 3, count(height, 3 * size), 3);
  return along(flat, new Uint8ClampedArray(3 * size * size), rows, count(size, 3), 3 * size, count(size, 3), 3 * size);
}

/** A file's pixels, upright and on white where it is transparent. */
export async function decode(file) {
  const image = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
  [canvas.width, canvas.height] = [image.width, image.height];
  context.fillStyle = "white";
  context.fillRect(0, 0, image.width, image.height);
  context.drawImage(image, 0, 0);
  image.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Load the network; gives a function from decoded pixels to {pixels, size, map, places, features}. */
export async function load() {
  const facts = await (await fetch("network.json")).json();
  ort.env.wasm.numThreads = 1; // more would need headers that a plain server does not send
  const session = await ort.InferenceSession.create("network.onnx", { executionProviders: ["wasm"] });
  return async (image) => {
    const pixels = prepare(image, facts), area = facts.size ** 2, input = new Float32Array(3 * area);
    for (let i = 0; i < 3 * area; i++) {
      const c = i % 3;
      input[c * area + (i - c) / 3] = (pixels[i] / 255 - facts.mean[c]) / facts.std[c];
    }
    const tensor = new ort.Tensor("float32", input, [1, 3, facts.size, facts.size]);
    const map = (await session.run({ images: tensor })).map, [, channels, side] = map.dims, places = side * side;
    const features = Array.from({ length: channels }, (_, c) =>
      map.data.subarray(c * places, (c + 1) * places).reduce((a, b) => a + b, 0) / places);
    return { pixels, size: facts.size, map: map.data, places, features };
  };
}
