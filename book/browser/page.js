// What the page shows: images by kind, a head that is trained anew whenever they change, and predictions.

import { decode, load } from "./network.js";
import { head as trainHead, products, rightUnseen } from "./head.js";

const MOST = 50; // images of a kind
const state = document.querySelector("#state"), measured = document.querySelector("#measured");
const zones = [...document.querySelectorAll(".drop")];
const kinds = zones.slice(0, 2), fresh = zones[2], names = kinds.map((zone) => zone.querySelector(".name"));
const shown = new Map(zones.map((zone) => [zone, []])); // what was computed of each zone's images
let network, head;

function say(text, failed = false) {
  state.textContent = text;
  state.classList.toggle("error", failed);
}

const pause = () => new Promise((resolve) => setTimeout(resolve)); // lets the browser draw
const nameOf = (kind) => names[kind].value.trim() || names[kind].defaultValue;
const training = () => kinds.flatMap((zone) => shown.get(zone));

/** Draw an image; with evidence, blue and orange places over it. */
function draw(canvas, { pixels, size, places }, evidence) {
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size), side = Math.sqrt(places);
  const most = (evidence && Math.max(...evidence.map(Math.abs))) || 1;
  for (let i = 0; i < size * size; i++) {
    const place = Math.floor((Math.floor(i / size) * side) / size) * side + Math.floor(((i % size) * side) / size);
    const strength = evidence ? (0.6 * Math.abs(evidence[place])) / most : 0;
    const colour = evidence && evidence[place] > 0 ? [213, 94, 0] : [0, 114, 178];
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[3 * i + c] * (1 - strength) + colour[c] * strength;
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function show(each, text, evidence) {
  draw(each.canvas, each, evidence);
  each.canvas.setAttribute("aria-label", text);
  each.caption.textContent = text;
}

function figure(zone, each) {
  const made = document.createElement("figure"), remove = document.createElement("button");
  each.canvas = document.createElement("canvas");
  each.caption = document.createElement("figcaption");
  each.canvas.setAttribute("role", "img");
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Remove ${each.name}`);
  remove.addEventListener("click", () => enqueue(async () => {
    shown.set(zone, shown.get(zone).filter((other) => other !== each));
    made.remove();
    if (zone !== fresh) await retrain();
  }));
  made.append(each.canvas, remove, each.caption);
  zone.querySelector(".images").append(made);
  show(each, each.name);
}

const same = (a, b) => a.pixels.every((x, i) => x === b.pixels[i]);

/** Why a file cannot be used; "" if it was added. */
async function addOne(zone, file) {
  if (shown.get(zone).length === MOST) return `there are ${MOST} images, and more are not taken`;
  let image;
  try {
    image = await decode(file);
  } catch {
    return "it is no image that this browser can read";
  }
  const computed = { name: file.name, ...(await network(image)) };
  const known = training().find((other) => same(other, computed));
  if (known) return `it is the same image as ${known.name}, which the head has seen`;
  shown.get(zone).push(computed);
  figure(zone, computed);
  return "";
}

async function add(zone, files) {
  const refused = zone.querySelector(".refused"), start = performance.now();
  refused.textContent = "";
  let taken = 0;
  for (const [number, file] of files.entries()) {
    say(`Computing features: image ${number + 1} of ${files.length}`);
    await pause();
    const reason = await addOne(zone, file);
    taken += !reason;
    if (reason) refused.textContent += `${file.name} was left out: ${reason}. `;
  }
  const took = `Features of ${taken} image${taken === 1 ? "" : "s"}: ${((performance.now() - start) / 1000).toFixed(1)} s. `;
  if (zone !== fresh) return retrain(took);
  shown.get(fresh).forEach(predict);
  say(took);
}

async function retrain(before = "") {
  const [first, second] = kinds.map((zone) => shown.get(zone)), all = training();
  const labels = all.map((_, i) => Number(i >= first.length)), enough = first.length > 1 && second.length > 1;
  head = undefined;
  measured.hidden = !enough;
  for (const each of all) {
    each.caption.textContent = each.name;
    each.canvas.classList.remove("wrong");
  }
  if (!enough) say(`${before}Add two images or more of each kind.`);
  else {
    const start = performance.now(), features = all.map((each) => each.features), product = products(features);
    head = trainHead(features, labels, product);
    const took = (performance.now() - start) / 1000;
    let right = 0;
    for (const [i, each] of all.entries()) {
      if (i % 8 === 0) {
        say(`Measuring: image ${i + 1} of ${all.length}`);
        await pause();
      }
      const isRight = rightUnseen(product, labels, i);
      right += isRight;
      each.canvas.classList.toggle("wrong", !isRight);
      if (!isRight) each.caption.textContent = `${each.name} (wrong)`;
    }
    document.querySelector("#result").textContent =
      `Each image was predicted by a head that had not seen it: ${right} of ${all.length} right. Guessing gives half.`;
    say(`${before}The head was trained in ${took.toFixed(2)} s. Now try new images.`);
  }
  shown.get(fresh).forEach(predict);
}

function predict(each) {
  fresh.querySelector(".legend").hidden = !head;
  if (!head) return show(each, each.name);
  const p = head.probability(each.features), kind = Number(p >= 0.5);
  each.canvas.dataset.probability = p;
  show(each, `${each.name}: ${nameOf(kind)}, ${Math.round(100 * (kind ? p : 1 - p))}\u00a0%`, head.evidence(each));
}

function clear() {
  for (const zone of zones) {
    shown.set(zone, []);
    zone.querySelector(".images").replaceChildren();
    zone.querySelector(".refused").textContent = "";
  }
  for (const name of names) name.value = name.defaultValue;
}

async function examples() {
  clear();
  const listed = await (await fetch("examples/list.json")).json();
  for (const [i, { name, files }] of listed.entries()) {
    if (i < 2) names[i].value = name;
    const blobs = files.map(async (file) => new File([await (await fetch(`examples/${file}`)).blob()], file));
    await add(zones[i], await Promise.all(blobs));
  }
}

let queue = load().then((loaded) => {
  network = loaded;
  document.querySelectorAll("button").forEach((button) => (button.disabled = false));
  say("Add two images or more of each kind.");
  state.dataset.ready = "yes";
});
queue.catch((error) => say(`The network could not be loaded (${error.message ?? error}). Load the page again.`, true));

/** Do one thing after the other; nothing before the network is there. */
const enqueue = (work) => queue.then(() => (queue = queue.then(work).catch((error) => say(String(error), true))), () => {});

document.addEventListener("dragover", (event) => event.preventDefault()); // or the browser would open the file
document.addEventListener("drop", (event) => event.preventDefault());
for (const zone of zones) {
  zone.querySelector("input[type=file]").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    enqueue(() => add(zone, files));
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    const files = [...event.dataTransfer.files];
    enqueue(() => add(zone, files));
  });
}
for (const name of names) name.addEventListener("input", () => enqueue(() => shown.get(fresh).forEach(predict)));
document.querySelector("#examples").addEventListener("click", () => enqueue(examples));
document.querySelector("#clear").addEventListener("click", () => enqueue(() => (clear(), retrain())));
