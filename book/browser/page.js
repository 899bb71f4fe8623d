// What the page shows: images by kind, a head that is trained anew whenever they change, and predictions.

import { load } from "./network.js";
import { leftOut, train } from "./head.js";

const MOST = 50; // images of a kind
const state = document.querySelector("#state");
const zones = [...document.querySelectorAll(".drop")];
const kinds = zones.slice(0, 2), fresh = zones[2];
const shown = new Map(zones.map((zone) => [zone, []])); // what was computed of each zone's images
let network, head, queue = Promise.resolve();

function say(text, failed = false) {
  state.textContent = text;
  state.classList.toggle("error", failed);
}

const nameOf = (kind) => kinds[kind].querySelector(".name").value.trim() || ["first", "second"][kind];

/** Draw an image; with evidence, blue and orange places over it. */
function draw(canvas, { pixels, size, places }, evidence) {
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size), side = Math.sqrt(places), most = evidence && Math.max(...evidence.map(Math.abs));
  for (let i = 0; i < size * size; i++) {
    const place = Math.floor((Math.floor(i / size) * side) / size) * side + Math.floor(((i % size) * side) / size);
    const strength = evidence ? 0.6 * Math.abs(evidence[place]) / most : 0;
    const colour = evidence && evidence[place] > 0 ? [213, 94, 0] : [0, 114, 178];
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[3 * i + c] * (1 - strength) + colour[c] * strength;
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function figure(zone, name) {
  const made = document.createElement("figure");
  made.append(document.createElement("canvas"), document.createElement("figcaption"));
  made.querySelector("figcaption").textContent = name;
  zone.querySelector(".images").append(made);
  return made;
}

async function add(zone, files) {
  const own = shown.get(zone), refused = [], start = performance.now();
  for (const [number, file] of [...files].entries()) {
    if (own.length === MOST) { refused.push(`more than ${MOST} images of a kind`); break; }
    say(`Computing features: image ${number + 1} of ${files.length}`);
    await new Promise(requestAnimationFrame);
    try {
      const computed = { name: file.name, ...(await network(file)) };
      computed.figure = figure(zone, file.name);
      draw(computed.figure.querySelector("canvas"), computed);
      own.push(computed);
    } catch (error) {
      refused.push(`${file.name} is no image that this browser can read`);
    }
  }
  const seconds = (performance.now() - start) / 1000;
  update(`Features of ${files.length} image${files.length === 1 ? "" : "s"}: ${seconds.toFixed(1)} s. `, refused);
}

function update(before = "", refused = []) {
  const [first, second] = kinds.map((zone) => shown.get(zone));
  const all = [...first, ...second], labels = all.map((_, i) => Number(i >= first.length));
  const enough = first.length > 1 && second.length > 1;
  head = undefined;
  document.querySelector("#measured").hidden = !enough;
  let text = "Add two images or more of each kind.";
  if (enough) {
    const start = performance.now(), features = all.map((each) => each.features);
    head = train(features, labels);
    const took = (performance.now() - start) / 1000, right = leftOut(features, labels);
    all.forEach((each, i) => each.figure.querySelector("canvas").classList.toggle("wrong", !right[i]));
    const hits = right.filter(Boolean).length, wrong = hits < right.length ? " The outlined ones were wrong." : "";
    document.querySelector("#result").textContent =
      `Each image left out once: ${hits} of ${right.length} right.${wrong} Always the more frequent kind would be right ` +
      `${Math.max(first.length, second.length)} times.`;
    text = `The head was trained in ${took.toFixed(2)} s. Now try new images.`;
  }
  for (const each of shown.get(fresh)) predict(each);
  say(before + text + (refused.length ? ` Left out: ${refused.join("; ")}.` : ""), refused.length > 0);
}

function predict(each) {
  const caption = each.figure.querySelector("figcaption");
  fresh.querySelector(".legend").hidden = !head;
  if (!head) { caption.textContent = each.name; return draw(each.figure.querySelector("canvas"), each); }
  const p = head.probability(each.features), kind = Number(p >= 0.5);
  each.figure.dataset.probability = p;
  caption.textContent = `${each.name}: ${nameOf(kind)}, ${Math.round(100 * (kind ? p : 1 - p))} %`;
  draw(each.figure.querySelector("canvas"), each, head.evidence(each));
}

const enqueue = (work) => (queue = queue.then(work).catch((error) => say(String(error), true)));

for (const zone of zones) {
  zone.querySelector("input[type=file]").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    enqueue(() => add(zone, files));
  });
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const files = [...event.dataTransfer.files];
    enqueue(() => add(zone, files));
  });
  zone.querySelector(".name")?.addEventListener("input", () => enqueue(() => update()));
}

document.querySelector("#examples").addEventListener("click", () => enqueue(async () => {
  const examples = await (await fetch("examples/list.json")).json();
  for (const [i, zone] of zones.entries()) {
    const { name, files } = examples[i];
    if (i < 2) zone.querySelector(".name").value = name;
    const blobs = await Promise.all(files.map(async (file) => new File([await (await fetch(`examples/${file}`)).blob()], file)));
    await add(zone, blobs);
  }
}));
document.querySelector("#clear").addEventListener("click", () => enqueue(() => {
  for (const zone of zones) { shown.set(zone, []); zone.querySelector(".images").replaceChildren(); }
  update();
}));

try {
  network = await load();
  document.querySelectorAll("button").forEach((button) => (button.disabled = false));
  update();
  state.dataset.ready = "yes";
} catch (error) {
  say(`The network could not be loaded (${error.message ?? error}).`, true);
}
