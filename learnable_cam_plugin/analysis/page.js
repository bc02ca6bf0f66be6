"use strict";
const $ = id => document.getElementById(id);
const shared = JSON.parse($("shared").textContent);
const items = [...$("list").querySelectorAll("li[data-number]")];
const KINDS = ["predicted", "other", "contrast", "reverse"];
let shown = items;  // what the filters leave, in the order of the list
let at = null;  // the item of the list that is shown
let current = null;  // its data, and what is made of it

/* Elements are only ever made with text nodes, never with HTML: names come from files. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== null));
  return element;
}
function name(index) { return shared.names[index] ?? `class ${index}`; }
function number(p) {
  if (p === null || p === undefined) return "–";
  const size = Math.abs(p);
  return size >= 0.00995 || size === 0 ? p.toFixed(2) : size < 0.0001 ? "<0.0001" : p.toPrecision(1);
}
function asked(value) { return Number.isInteger(value) ? String(value) : number(value); }  // some are counts
function dataOf(item) { return JSON.parse($(`data-${item.dataset.number}`).textContent); }
function uri(photo) { return `data:image/jpeg;base64,${photo}`; }

/* ---- the list ---- */
const thumbnails = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) {
    if (!isIntersecting) continue;
    thumbnails.unobserve(target);
    const {photo} = dataOf(target);
    if (photo) target.querySelector("img").src = uri(photo);
  }
}, {root: $("list"), rootMargin: "200px"});
for (const item of items) {
  item.querySelector("a").prepend(make("img", {alt: "", decoding: "async"}));
  thumbnails.observe(item);
}
const pairs = new Map();
for (const {dataset: d} of items) if (!d.correct) pairs.set(`${d.label}>${d.predicted}`, (pairs.get(`${d.label}>${d.predicted}`) ?? 0) + 1);
$("pair").append(...[...pairs].sort((a, b) => b[1] - a[1]).map(([pair, errors]) =>
  make("option", {value: pair}, `${pair.split(">").map(name).join(" → ")} (${errors})`)));

function fits(item) {
  const d = item.dataset;
  const kind = $("kind").value, pair = $("pair").value, p = Number(d.p);
  if (kind === "errors" && d.correct || kind === "correct" && !d.correct) return false;
  if ($("cause").value && d.cause !== $("cause").value) return false;
  if (p < Number($("least").value || 0) || p > Number($("most").value || 1)) return false;
  if (pair) {  // of correct images, those of either class whose second is the other one
    const here = d.correct ? [`${d.label}>${d.other}`, `${d.other}>${d.label}`] : [`${d.label}>${d.predicted}`];
    if (!here.includes(pair)) return false;
  }
  const text = `${item.querySelector(".file").textContent} ${name(d.label)} ${name(d.predicted)}`;
  return text.toLowerCase().includes($("search").value.trim().toLowerCase());
}
const ORDERS = {
  given: d => Number(d.number), doubt: d => -Number(d.doubt), high: d => -Number(d.p), low: d => Number(d.p),
};
function filter() {
  const order = ORDERS[$("order").value];
  const sorted = [...items].sort((a, b) => order(a.dataset) - order(b.dataset) || a.dataset.number - b.dataset.number);
  if (sorted.some((item, i) => $("list").children[i] !== item)) $("list").append(...sorted);
  for (const item of items) item.hidden = !fits(item);
  shown = sorted.filter(item => !item.hidden);
  $("count").textContent = `${shown.length} of ${items.length} cases`;
  if (!shown.includes(at) && shown.length) select(shown[0]);
  place();
}
function place() {
  const where = shown.indexOf(at);
  $("previous").disabled = where <= 0;
  $("next").disabled = where < 0 || where === shown.length - 1;
}
function step(by) {
  const where = shown.indexOf(at);
  const to = shown[Math.min(shown.length - 1, Math.max(0, where + by))];
  if (!to || to === at) return;
  const inList = $("list").contains(document.activeElement);
  select(to);
  if (inList) to.querySelector("a").focus();
  if ($("work").getBoundingClientRect().top > innerHeight / 2) $("work").scrollIntoView();
}

/* ---- a case ---- */
function select(item) {
  at?.querySelector("a").removeAttribute("aria-current");
  at = item;
  at.querySelector("a").setAttribute("aria-current", "true");
  const list = $("list"), box = at.getBoundingClientRect(), frame = list.getBoundingClientRect();
  if (box.top < frame.top) list.scrollTop += box.top - frame.top;
  if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom;
  history.replaceState(null, "", `#case-${at.dataset.number}`);
  const data = dataOf(at);
  const [height, width] = data.size;
  const scale = Math.min(1, 512 / Math.max(height, width));
  current = {data, d: at.dataset, height: Math.round(height * scale), width: Math.round(width * scale), photo: null, maps: {}, regions: {}};
  describe();
  draw();
  drawSmall();
  const mine = current;
  if (!data.photo) return;
  const image = new Image();
  image.src = uri(data.photo);
  image.decode().then(() => {
    mine.photo = image;
    if (mine !== current) return;
    draw();
    performance.mark("drawn");
  });
}
function about(kind) {
  const {d} = current, [one, two] = [name(d.predicted), name(d.other)];
  return {"": "photograph", predicted: one, other: two, contrast: `${one} rather than ${two}`, reverse: `${two} rather than ${one}`}[kind];
}
function describe() {
  const {data, d} = current;
  const predicted = () => make("span", {class: "is-predicted"}, name(d.predicted));
  $("what").replaceChildren(...(d.correct ? [predicted(), ", correct"] : [make("span", {class: "is-other"}, name(d.label)), " taken for ", predicted()]));
  const file = at.querySelector(".file").textContent;
  $("which").textContent = [file, `doubt ${number(Number(d.doubt))}`, d.correct ? `second: ${name(d.other)}` : `true class at rank ${data.rank}`,
    data.problem && `no photograph: ${data.problem}`].filter(Boolean).join(" · ");
  for (const side of ["left", "right"]) {
    const value = $(side).value || {left: "predicted", right: "other"}[side];
    $(side).replaceChildren(...["", ...KINDS].map(kind => make("option", {value: kind}, about(kind))));
    $(side).value = chosen[side] ?? value;
  }
  $("probabilities").replaceChildren(...data.probabilities.map(([index, p]) =>
    make("div", {class: `p-row ${index === Number(d.predicted) ? "is-predicted" : index === Number(d.other) ? "is-other" : ""}`},
      make("span", {}, name(index)), make("span", {class: "line", style: `--p: ${p}`}), make("span", {}, number(p)))));
  const {overlap, correlation, distance} = data.agreement;
  $("agreement").replaceChildren(...[
    ["overlap of the regions", number(overlap)], ["rank correlation", number(correlation)],
    ["distance of the centres", distance === null ? "–" : `${(100 * distance).toFixed(0)} % of the diagonal`],
  ].map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))));
  describeVerdict();
  describeTrials();
  $("near").hidden = !data.neighbours.length;
  $("neighbours").replaceChildren(...data.neighbours.map(([file, label, likeness]) =>
    make("li", {}, make("b", {}, name(label)), ` ${file}, likeness ${number(likeness)}`)));
}
function describeVerdict() {
  const {data, d} = current;
  if (!data.checks) { $("verdict").replaceChildren(make("p", {class: "soft"}, "The image is classified correctly: no cause is asked for.")); return; }
  $("verdict").replaceChildren(make("p", {class: "named"}, d.cause), ...Object.entries(data.checks).map(([cause, checks]) => {
    const held = checks.filter(check => check[4]).length;
    const rows = checks.map(([what, value, bound, above, holds]) => make("tr", {}, make("td", {}, what),
      make("td", {class: "n"}, asked(value)), make("td", {class: "n soft"}, `${above ? "≥" : "≤"} ${asked(bound)}`),
      make("td", {class: holds ? "n holds" : "n fails"}, holds ? "✓ holds" : "✗ fails")));
    return make("details", {class: cause === d.cause ? "found" : "", open: cause === d.cause ? "" : null},
      make("summary", {}, `${cause}: ${held} of ${checks.length} hold`), make("table", {}, make("tbody", {}, ...rows)));
  }));
}
function describeTrials() {
  const {data, d} = current;
  const fillings = [...new Set(data.trials.map(trial => trial[2]))];
  const rows = new Map();
  const actions = [...new Set(data.trials.map(trial => trial[0]))];  // a region stands above its control
  for (const trial of actions.flatMap(action => data.trials.filter(one => one[0] === action))) {
    const row = `${trial[0]} ${trial[1]}`;
    if (!rows.has(row)) rows.set(row, []);
    rows.get(row).push(trial);
  }
  const cell = ([predicted, other, top, p]) => {
    const line = (kind, value) => make("span", {class: `two is-${kind}${top === Number(d[kind]) ? " top" : ""}`}, make("span", {class: "line", style: `--p: ${value}`}), make("span", {}, number(value)));
    const third = ![Number(d.predicted), Number(d.other)].includes(top);
    return make("div", {}, line("predicted", predicted), line("other", other), third ? make("small", {class: "wins"}, `${name(top)} ${number(p)} wins`) : null);
  };
  const who = kind => ({random: "a random region", thing: "the thing that may be in front", beside: "a random region of the thing’s shape", elsewhere: "a random region of that shape", contrast: `what speaks for ${name(d.predicted)} rather than ${name(d.other)}`})[kind] || `the region of ${name(d[kind])}`;
  const before = data.probabilities.reduce((found, [index, p]) => ({...found, [index]: p}), {});
  $("tests").hidden = !data.trials.length;
  $("trials").replaceChildren(
    make("caption", {class: "sr"}, "Probabilities of the two classes, unchanged and after each change, for each filling"),
    make("thead", {}, make("tr", {}, make("th", {scope: "col"}, make("span", {class: "is-predicted"}, make("span", {class: "key"}), name(d.predicted)), " ", make("span", {class: "is-other"}, make("span", {class: "key"}), name(d.other))),
      ...fillings.map(filling => make("th", {scope: "col"}, `filled with ${filling}`)))),
    make("tbody", {}, make("tr", {}, make("th", {scope: "row"}, "unchanged"),
      make("td", {colspan: fillings.length}, cell([before[d.predicted], before[d.other], Number(d.predicted), 0]))),
      ...[...rows.values()].map(trials => make("tr", {}, make("th", {scope: "row"}, `${trials[0][0]} ${who(trials[0][1])}`),
        ...fillings.map(filling => make("td", {}, ...trials.filter(trial => trial[2] === filling).map(trial => cell(trial.slice(3)))))))));
}

/* ---- maps ---- */
const chosen = {left: null, right: null};
const COLOURS = Uint8ClampedArray.from({length: 256 * 3}, (_, i) => {
  const along = Math.floor(i / 3) / 255 * (shared.viridis.length - 1), low = Math.min(Math.floor(along), shared.viridis.length - 2);
  return shared.viridis[low][i % 3] * (low + 1 - along) + shared.viridis[low + 1][i % 3] * (along - low);
});
/* Bilinear, from the centres of the grid's cells; 0 to 255, of the case's highest value. */
function enlarged(kind, width, height) {
  const key = `${kind} ${width}`;
  if (current.maps[key]) return current.maps[key];
  const [rows, columns] = current.data.grid;
  const grid = Uint8Array.from(atob(current.data.maps[kind]), c => c.charCodeAt(0));
  const found = new Float32Array(width * height);
  const along = (i, size, cells) => Math.min(cells - 1, Math.max(0, (i + 0.5) / size * cells - 0.5));
  for (let y = 0; y < height; y++) {
    const v = along(y, height, rows), top = Math.floor(v), below = Math.min(rows - 1, top + 1), dv = v - top;
    for (let x = 0; x < width; x++) {
      const u = along(x, width, columns), left = Math.floor(u), right = Math.min(columns - 1, left + 1), du = u - left;
      found[y * width + x] = (grid[top * columns + left] * (1 - du) + grid[top * columns + right] * du) * (1 - dv)
        + (grid[below * columns + left] * (1 - du) + grid[below * columns + right] * du) * dv;
    }
  }
  return current.maps[key] = found;
}
function region(kind) {  // 0 and 1 at the canvas's size, from the runs at the image's
  if (current.regions[kind]) return current.regions[kind];
  const [rows, columns] = current.data.size, {width, height} = current;
  const whole = new Uint8Array(rows * columns), found = new Uint8Array(width * height);
  let from = 0, inside = false;
  for (const run of current.data.regions[kind] ?? []) { if (inside) whole.fill(1, from, from + run); from += run; inside = !inside; }
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    found[y * width + x] = whole[Math.floor(y * rows / height) * columns + Math.floor(x * columns / width)];
  return current.regions[kind] = found;
}
function blend(pixels, found, left, right, width, height, opacity, top) {
  for (let y = 0; y < height; y++) for (let x = left; x < right; x++) {
    const i = y * width + x, value = Math.min(255, found[i] * top);
    const alpha = opacity * Math.sqrt(value / 255), colour = 3 * Math.round(value);
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = pixels[4 * i + c] * (1 - alpha) + COLOURS[colour + c] * alpha;
  }
}
function outline(pixels, found, width, height, colour) {
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const i = y * width + x;
    if (!found[i]) continue;
    const edge = x < 1 || y < 1 || x > width - 2 || y > height - 2 || !found[i - 1] || !found[i + 1] || !found[i - width] || !found[i + width];
    if (edge) for (let c = 0; c < 3; c++) pixels[4 * i + c] = colour[c];
  }
}
function cut(pixels, found, keep) {  // filled with the mean, whatever is to be hidden
  const mean = [0, 0, 0];
  for (let i = 0; i < found.length; i++) for (let c = 0; c < 3; c++) mean[c] += pixels[4 * i + c] / found.length;
  for (let i = 0; i < found.length; i++) if (Boolean(found[i]) !== keep) for (let c = 0; c < 3; c++) pixels[4 * i + c] = mean[c];
}
function draw() {
  if (!current) return;
  const {width, height, data} = current, canvas = $("canvas");
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, width, height);
  if (current.photo) pen.drawImage(current.photo, 0, 0, width, height);
  const picture = pen.getImageData(0, 0, width, height), pixels = picture.data;
  const [action, whose] = $("view").value.split(" ");
  if (action) cut(pixels, region(whose), action === "keep");
  const middle = Math.round(width * $("split").value / 100), opacity = $("opacity").value / 100;
  const whole = $("whole-scale").checked, top = whole ? data.scale : 1;
  if ($("maps").checked) for (const [side, from, to] of [["left", 0, middle], ["right", middle, width]]) {
    if ($(side).value) blend(pixels, enlarged($(side).value, width, height), from, to, width, height, opacity, top);
  }
  if ($("outlines").checked) {
    outline(pixels, region("other"), width, height, [122, 176, 255]);
    outline(pixels, region("predicted"), width, height, [251, 146, 60]);
    if (current.d.cause === "something in front") outline(pixels, region("thing"), width, height, [74, 222, 128]);
  }
  pen.putImageData(picture, 0, 0);
  $("handle").hidden = !$("maps").checked;
  $("handle").style.left = `${$("split").value}%`;
  $("highest").textContent = number(whole ? 1 : data.scale);
  const names = [$("left").value, $("right").value].map(about);
  canvas.setAttribute("aria-label", `${at.querySelector(".file").textContent}${$("maps").checked ? `: at the left the map of ${names[0]}, at the right that of ${names[1]}` : ""}`);
}
function drawSmall() {
  const top = $("whole-scale").checked ? current.data.scale : 1;
  const width = 112, height = Math.max(1, Math.round(112 * current.height / current.width));
  $("small").replaceChildren(...KINDS.map(kind => {
    const canvas = Object.assign(make("canvas", {role: "img", "aria-label": `map of ${about(kind)}`}), {width, height});
    const pen = canvas.getContext("2d"), picture = pen.createImageData(width, height), found = enlarged(kind, width, height);
    found.forEach((value, i) => {
      picture.data.set(COLOURS.subarray(3 * Math.round(Math.min(255, value * top)), 3 * Math.round(Math.min(255, value * top)) + 3), 4 * i);
      picture.data[4 * i + 3] = 255;
    });
    pen.putImageData(picture, 0, 0);
    const highest = Math.max(...atob(current.data.maps[kind]).split("").map(c => c.charCodeAt(0))) / 255 * current.data.scale;
    return make("figure", {}, canvas, make("figcaption", {}, about(kind), make("span", {}, `highest ${number(highest)}`)));
  }));
}
{
  const pen = $("colours").getContext("2d"), picture = pen.createImageData(256, 1);
  for (let i = 0; i < 256; i++) { picture.data.set(COLOURS.subarray(3 * i, 3 * i + 3), 4 * i); picture.data[4 * i + 3] = 255; }
  pen.putImageData(picture, 0, 0);
}

/* ---- what is done with it ---- */
for (const id of ["split", "opacity", "maps", "outlines", "view"]) $(id).addEventListener("input", draw);
$("whole-scale").addEventListener("input", () => { draw(); drawSmall(); });
for (const side of ["left", "right"]) $(side).addEventListener("input", () => { chosen[side] = $(side).value; draw(); });
function drag(event) {
  if (event.type === "pointermove" && !(event.buttons & 1)) return;
  const box = $("stage").getBoundingClientRect();
  $("split").value = 100 * (event.clientX - box.left) / box.width;
  draw();
}
for (const event of ["pointerdown", "pointermove"]) $("stage").addEventListener(event, drag);
$("stage").addEventListener("pointerdown", event => $("stage").setPointerCapture(event.pointerId));

$("filters").addEventListener("input", filter);
$("filters").addEventListener("submit", event => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(filter));
$("list").addEventListener("click", event => {
  const item = event.target.closest("li[data-number]");
  if (item && !(event.ctrlKey || event.metaKey || event.shiftKey)) { event.preventDefault(); select(item); place(); }
});
for (const link of document.querySelectorAll("#causes a, #pairs a")) link.addEventListener("click", event => {
  event.preventDefault();
  $("filters").reset();
  if (link.dataset.cause) $("cause").value = link.dataset.cause;
  else { $("pair").value = link.dataset.pair; $("kind").value = "all"; }
  setTimeout(() => $("work").scrollIntoView());  // and after the filter, which follows the reset
});
$("previous").addEventListener("click", () => { step(-1); place(); });
$("next").addEventListener("click", () => { step(1); place(); });
$("show-keys").addEventListener("click", () => $("keys").showModal());

const toggle = id => () => $(id).click();
const KEYS = {
  j: () => step(1), k: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  1: toggle("maps"), 2: toggle("outlines"), 5: toggle("whole-scale"),
  3: () => {
    const now = $("left").value === "predicted" ? ["contrast", "reverse"] : ["predicted", "other"];
    [chosen.left, chosen.right] = [$("left").value, $("right").value] = now;
    draw();
  },
  4: () => { $("view").selectedIndex = ($("view").selectedIndex + 1) % $("view").options.length; draw(); },
  s: () => { $("summary").open = !$("summary").open; },
  "/": () => { $("search").focus(); $("search").select(); },
  "?": () => $("keys").showModal(),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const {target, key} = event, inList = $("list").contains(target);
  if ($("keys").open) { if (key === "?") $("keys").close(); return; }
  if (target.matches("input:not([type=checkbox], [type=range]), select")) {
    if (key === "Escape") { target.blur(); event.preventDefault(); }
    return;
  }
  if (target.matches("[type=range]") && key.startsWith("Arrow")) return;
  const act = inList && key === "ArrowDown" ? KEYS.j : inList && key === "ArrowUp" ? KEYS.k : Object.hasOwn(KEYS, key) ? KEYS[key] : null;
  if (!act) return;
  event.preventDefault();
  act();
  place();
});
function fromAddress() {
  const item = items.find(one => location.hash === `#case-${one.dataset.number}`);
  if (item && item !== at) {
    if (!fits(item)) $("kind").value = "all";
    at = item;
    filter();
    select(item);
    place();
    return true;
  }
  return false;
}
addEventListener("hashchange", fromAddress);

$("filters").hidden = $("show-keys").hidden = false;
$("case").hidden = !items.length;
if (!fromAddress()) filter();
performance.mark("ready");
