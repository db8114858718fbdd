// What the page does: it takes a picture, brings a square of it to the network's size, asks the
// worker that computes, and shows the probabilities.
"use strict";

const part = (id) => document.getElementById(id);
const about = JSON.parse(part("network").textContent);
const SIDE = about.side; // of the images that the network knows
const STEP = 0.05; // of an arrow key, as a share of the square
const picture = part("picture"), small = part("small"), size = part("size"), status = part("status");
const strip = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const percent = (share) =>
  (share > 0.995 && share < 1 ? ">99%" : share < 0.005 && share > 0 ? "<1%" : `${Math.round(100 * share)}%`);

let source = null; // { image, width, height }: an <img> or the camera's <video>
let square = null; // what is classified of it: { x, y, side }, in its pixels
let camera = null; // the camera's stream while it runs
let asked = 0, busy = false, again = false;

// The worker: its code and the weights stand in this page, so nothing is fetched.
const code = new Blob([part("forward").textContent], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(code));
worker.postMessage({ network:
  { ...about, weights: part("weights").textContent, numbers: part("numbers").textContent } });
worker.addEventListener("message", ({ data }) => {
  if (data.number !== asked) return;
  busy = false;
  answer(data.logits, data.seconds);
  if (again || camera) ask();
});
worker.addEventListener("error", ({ message }) => say(`The network cannot run here: ${message}`));

function say(text) { status.textContent = text; }

// A picture is shown with its largest square in the middle; whoever likes another moves it.
function show(image, width, height) {
  source = { image, width, height };
  size.value = 100;
  square = { x: 0, y: 0, side: 0 };
  resize();
}

function resize() {
  const middle = { x: square.x + square.side / 2, y: square.y + square.side / 2 };
  if (!square.side) Object.assign(middle, { x: source.width / 2, y: source.height / 2 });
  const whole = Math.min(source.width, source.height);
  square.side = Math.max(1, Math.round((whole * size.value) / 100));
  size.setAttribute("aria-valuetext", `${size.value}% of the picture`);
  move(middle.x - square.side / 2 - square.x, middle.y - square.side / 2 - square.y);
}

function move(x, y) {
  const within = (value, most) => Math.floor(Math.min(Math.max(value, 0), most));
  square.x = within(square.x + x, source.width - square.side);
  square.y = within(square.y + y, source.height - square.side);
  const fits = square.side === source.width && square.side === source.height;
  picture.style.touchAction = fits ? "auto" : "none"; // a finger scrolls, or moves the square
  draw();
  ask();
}

function draw() {
  const { image, width, height } = source, scale = Math.min(640 / width, 480 / height);
  picture.width = Math.max(1, Math.round(width * scale));
  picture.height = Math.max(1, Math.round(height * scale));
  const context = picture.getContext("2d");
  const [x, y, side] = [square.x, square.y, square.side].map((value) => value * scale);
  context.imageSmoothingEnabled = scale < 1;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(image, 0, 0, picture.width, picture.height);
  context.fillStyle = "rgb(0 0 0 / 55%)"; // what is left out
  context.beginPath();
  context.rect(0, 0, picture.width, picture.height);
  context.rect(x, y, side, side);
  context.fill("evenodd");
  for (const [colour, inset] of [["#000", 1], ["#fff", 3]]) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.strokeRect(x + inset, y + inset, side - 2 * inset, side - 2 * inset);
  }
}

// What pixel number `at` of the small image is the mean of: the first pixel of `length`, and the
// share of each from there on. Those at an edge count as far as they lie in the area.
function area(at, length) {
  const from = (at * length) / SIDE, to = ((at + 1) * length) / SIDE, first = Math.floor(from);
  const shares = [];
  for (let pixel = first; pixel < to; pixel += 1) {
    shares.push(((Math.min(to, pixel + 1) - Math.max(from, pixel)) * SIDE) / length);
  }
  return [first, shares];
}

// The square as SIDE x SIDE pixels, RGB by RGB. It is read in strips: phones have small canvases.
function shrink() {
  const { x, y, side } = square, pixels = new Uint8ClampedArray(SIDE * SIDE * 3);
  const columns = Array.from({ length: SIDE }, (_, at) => area(at, side));
  strip.canvas.width = side;
  strip.canvas.height = Math.ceil(side / SIDE) + 1;
  for (let row = 0; row < SIDE; row += 1) {
    const [top, lines] = area(row, side), sums = new Float64Array(SIDE * 3);
    strip.fillStyle = "#fff"; // behind what is transparent
    strip.fillRect(0, 0, side, lines.length);
    strip.drawImage(source.image, x, y + top, side, lines.length, 0, 0, side, lines.length);
    const { data } = strip.getImageData(0, 0, side, lines.length);
    lines.forEach((share, line) => columns.forEach(([left, shares], column) => {
      for (let i = 0; i < shares.length; i += 1) {
        const at = (line * side + left + i) * 4, weight = share * shares[i];
        for (let channel = 0; channel < 3; channel += 1) {
          sums[column * 3 + channel] += weight * data[at + channel];
        }
      }
    }));
    pixels.set(sums.map(Math.round), row * SIDE * 3);
  }
  return pixels;
}

function ask() {
  again = busy;
  if (busy || !source) return;
  if (camera) draw();
  const pixels = shrink(), context = small.getContext("2d"), image = context.createImageData(SIDE, SIDE);
  for (let at = 0; at < SIDE * SIDE; at += 1) {
    image.data.set([...pixels.subarray(3 * at, 3 * at + 3), 255], 4 * at);
  }
  context.putImageData(image, 0, 0);
  busy = true;
  asked += 1;
  worker.postMessage({ pixels, side: SIDE, number: asked });
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp((logit - most) / about.temperature));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function answer(logits, seconds) {
  const shares = softmax(logits), order = shares.map((_, at) => at).sort((a, b) => shares[b] - shares[a]);
  const [first, second] = order.map((at) => `${about.classes[at]} ${percent(shares[at])}`);
  part("best").textContent = about.classes[order[0]];
  part("rest").textContent =
    `${percent(shares[order[0]])}${shares[order[0]] < 0.5 ? ": it is not sure" : ""}`;
  if (!camera) part("heard").textContent = `The network says: ${first}; then ${second}.`;
  part("seconds").textContent = `computed in ${seconds < 0.095 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  [...part("bars").rows].forEach((row, at) => {
    row.classList.toggle("most", at === order[0]);
    row.querySelector("i").style.width = `${100 * shares[at]}%`;
    row.cells[2].textContent = percent(shares[at]);
  });
}

// Where pictures come from

async function open(file, name = file.name) {
  stop();
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
    if (!image.naturalWidth || !image.naturalHeight) throw new Error("no size");
  } catch {
    return say(`${name || "That"} is no picture that this browser can read; the last one stays.`);
  } finally {
    URL.revokeObjectURL(image.src);
  }
  say(name ? `Shown: ${name}.` : "");
  show(image, image.naturalWidth, image.naturalHeight);
}

function take(data) { // what was dropped or pasted
  const file = [...data.files][0];
  if (file) return open(file, file.name);
  say("Only a file or a copied picture can be taken: this page fetches nothing.");
}

for (const input of document.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => {
    if (input.files[0]) open(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
}
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer);
});
document.addEventListener("paste", (event) => take(event.clipboardData));

for (const button of document.querySelectorAll("#drawings button")) {
  button.addEventListener("click", () => {
    const drawing = new XMLSerializer().serializeToString(button.querySelector("svg"));
    open(new Blob([drawing], { type: "image/svg+xml" }), `a drawing (${button.dataset.name})`);
  });
}

// The camera's picture is classified while it runs, until it is held.
async function start() {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true });
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    video.srcObject = camera;
    await video.play();
  } catch (error) {
    stop();
    return say(`No camera here (${error.message || error.name}); choose a file instead.`);
  }
  part("camera").textContent = "Hold this picture";
  say("The camera is on. Its pictures stay on this device.");
  show(video, video.videoWidth, video.videoHeight);
}

function stop() {
  if (!camera) return;
  const still = document.createElement("canvas");
  if (source && source.image.srcObject === camera) {
    Object.assign(still, { width: source.width, height: source.height });
    still.getContext("2d").drawImage(source.image, 0, 0);
    source.image = still;
  }
  camera.getTracks().forEach((track) => track.stop());
  camera = null;
  part("camera").textContent = "Use the camera";
  say("The camera is off.");
  ask();
}

part("camera").hidden = !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia);
part("camera").addEventListener("click", () => (camera ? stop() : start()));

// The square is moved with a finger, the mouse or the arrow keys.
let held = null; // where the pointer was, in pixels of the page
picture.addEventListener("pointerdown", (event) => {
  picture.setPointerCapture(event.pointerId);
  held = event;
});
picture.addEventListener("pointermove", (event) => {
  if (!picture.hasPointerCapture(event.pointerId)) return;
  const scale = source.width / picture.clientWidth;
  const by = [event.clientX - held.clientX, event.clientY - held.clientY];
  held = event;
  move(...by.map((distance) => Math.round(distance * scale)));
});
picture.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const zoom = { "+": 5, "-": -5 }[event.key], length = Math.ceil(square.side * STEP);
  if (zoom) {
    size.value = Number(size.value) - zoom; // closer: a smaller square
    resize();
  } else if (steps[event.key]) {
    move(...steps[event.key].map((step) => step * length));
    event.preventDefault();
  }
});
size.addEventListener("input", resize);

document.querySelector("#drawings button").click();
