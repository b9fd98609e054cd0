// The browser's side of s2l_images.board.widget: plain JavaScript, served as it stands here.
//
// Coordinates are those of the Python side: [row, column] from pixel centres, on a grid of quarter pixels. Four
// canvases lie on each other, as large as what is seen and not as the image: picture, overlay, ink and marks
// (outlines and circles). A stroke only adds to the ink, so drawing waits for nobody. The kernel gets the strokes of
// an image whenever one is finished and says when they are on disk; until then the browser keeps a copy, from which
// they return if kernel or page go away.

const UNIT = 0.25; // pixels: as in s2l_images.strokes
const COLOURS = ["#2F8FE0", "#FF8C00"]; // background and foreground: as in s2l_paper.figures.plotting
const LABELS = ["background", "foreground"];
const WIDEST = 64; // pixels, of the brush
const KEPT = 3; // images whose pixels stay in the browser
const ASK_AGAIN = [20000, 60000]; // ms without an answer, after which an image is asked for once more
const STEPS = 50; // of the history that a reload keeps
const GREEN = "#39FF88"; // outlines of the objects that are exported
const MANY_CORNERS = 5000; // of outlines in view: more take longer than a frame
const REST = 120; // milliseconds after which a view that moved has come to rest
const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]; // micrometres, of the scale bar
const WAITING = "Kept in this browser; saved once the kernel is free";
const LAYERS = { prediction: "Prediction", pseudo_labels: "Pseudo-labels", uncertainty: "Uncertainty" };

// ---- strokes: {label, width, points, box}, never changed once made --------------------------------------------------

const round = (value) => Math.round(value / UNIT) * UNIT;
const mix = (a, b, t) => [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];

export function makeStroke(label, width, points) {
  const grid = points.map(([row, column]) => [round(row), round(column)]);
  const kept = grid.filter((p, i) => !i || p[0] !== grid[i - 1][0] || p[1] !== grid[i - 1][1]);
  return { label, width, points: kept, box: boxOf(kept, width / 2) };
}

/** [top, left, bottom, right] of points and whatever lies within `reach` of them. */
function boxOf(points, reach) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [row, column] of points) {
    box[0] = Math.min(box[0], row - reach);
    box[1] = Math.min(box[1], column - reach);
    box[2] = Math.max(box[2], row + reach);
    box[3] = Math.max(box[3], column + reach);
  }
  return box;
}

const meet = (a, b) => a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3];
const union = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];

/** A row of the file of strokes: width (negative: background), first point, steps; whole numbers of UNIT. */
export function encode(stroke) {
  const row = [(stroke.width / UNIT) * (stroke.label ? 1 : -1)];
  let last = [0, 0];
  for (const point of stroke.points) {
    row.push(Math.round((point[0] - last[0]) / UNIT), Math.round((point[1] - last[1]) / UNIT));
    last = point;
  }
  return row;
}

export function decode([width, ...steps]) {
  const points = [];
  let [row, column] = [0, 0];
  for (let i = 0; i < steps.length; i += 2) {
    row += steps[i] * UNIT;
    column += steps[i + 1] * UNIT;
    points.push([row, column]);
  }
  return makeStroke(Number(width > 0), Math.abs(width) * UNIT, points);
}

/** What is left of a stroke after an eraser of some radius went from p to q: nothing under it keeps its ink. */
export function erase(stroke, p, q, radius) {
  const reach = radius + stroke.width / 2;
  const points = stroke.points;
  if (!meet(boxOf([p, q], radius), stroke.box)) return [stroke];
  if (points.length === 1) return inside(points[0], points[0], p, q, reach) ? [] : [stroke];
  const pieces = [];
  let piece = [points[0]];
  let touched = false;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    const span = inside(a, b, p, q, reach);
    if (!span) {
      if (!piece.length) piece.push(a);
      piece.push(b);
      continue;
    }
    touched = true;
    if (span[0] > 0) piece.push(mix(a, b, span[0]));
    if (piece.length > 1) pieces.push(piece);
    piece = span[1] < 1 ? [mix(a, b, span[1]), b] : [];
  }
  if (!touched) return [stroke];
  if (piece.length > 1) pieces.push(piece);
  return pieces.map((rest) => makeStroke(stroke.label, stroke.width, rest));
}

/** [from, to] in 0..1: the part of segment a-b within `radius` of segment p-q, or null. Convex, hence one interval. */
function inside(a, b, p, q, radius) {
  const spans = [inDisc(a, b, p, radius), inDisc(a, b, q, radius), inBand(a, b, p, q, radius)].filter(Boolean);
  return spans.length ? [Math.min(...spans.map((s) => s[0])), Math.max(...spans.map((s) => s[1]))] : null;
}

function inDisc(a, b, centre, radius) {
  const [dy, dx, y, x] = [b[0] - a[0], b[1] - a[1], a[0] - centre[0], a[1] - centre[1]];
  const square = dy * dy + dx * dx;
  const rest = y * y + x * x - radius * radius;
  if (!square) return rest <= 0 ? [0, 1] : null;
  const half = (y * dy + x * dx) / square;
  const root = half * half - rest / square;
  return root < 0 ? null : clipped(-half - Math.sqrt(root), -half + Math.sqrt(root));
}

function inBand(a, b, p, q, radius) {
  const length = Math.hypot(q[0] - p[0], q[1] - p[1]);
  if (!length) return null;
  const [uy, ux] = [(q[0] - p[0]) / length, (q[1] - p[1]) / length];
  let span = [0, 1];
  const slabs = [
    [(a[0] - p[0]) * uy + (a[1] - p[1]) * ux, (b[0] - a[0]) * uy + (b[1] - a[1]) * ux, 0, length],
    [(a[0] - p[0]) * ux - (a[1] - p[1]) * uy, (b[0] - a[0]) * ux - (b[1] - a[1]) * uy, -radius, radius],
  ];
  for (const [start, step, low, high] of slabs) {
    if (!step && (start < low || start > high)) return null;
    const ends = step ? [(low - start) / step, (high - start) / step].sort((s, t) => s - t) : [0, 1];
    span = span && clipped(Math.max(span[0], ends[0]), Math.min(span[1], ends[1]));
  }
  return span;
}

const clipped = (from, to) => (from > 1 || to < 0 || from > to ? null : [Math.max(from, 0), Math.min(to, 1)]);

// ---- drawings: the strokes of an image and how they came about ------------------------------------------------------

export class Drawing {
  constructor(strokes) {
    this.strokes = strokes;
    this.past = [];
    this.future = [];
  }

  change(strokes) {
    this.past.push(this.strokes);
    this.future = [];
    this.strokes = strokes;
  }

  /** One step back, or forth; false where there is none. */
  undo(from = this.past, to = this.future) {
    if (!from.length) return false;
    to.push(this.strokes);
    this.strokes = from.pop();
    return true;
  }

  redo() {
    return this.undo(this.future, this.past);
  }

  /** Takes over what is on disk. Strokes of others join every step of the history, so that no undo takes them away. */
  join(rows) {
    const own = new Set(this.strokes.map((stroke) => String(encode(stroke))));
    const there = new Set(rows.map(String));
    const foreign = rows.filter((row) => !own.has(String(row))).map(decode);
    if (!foreign.length && own.size === there.size) return;
    const joined = (strokes) => [...strokes, ...foreign];
    this.past = this.past.map(joined);
    this.future = this.future.map(joined);
    this.strokes = rows.map(decode);
  }

  /** The whole history as one object for JSON; a stroke that stays from step to step is written once. */
  pack() {
    const rows = [];
    const numbers = new Map();
    const numberOf = (stroke) => {
      if (!numbers.has(stroke)) numbers.set(stroke, rows.push(encode(stroke)) - 1);
      return numbers.get(stroke);
    };
    const past = this.past.slice(-STEPS);
    const steps = [...past, this.strokes, ...this.future].map((strokes) => strokes.map(numberOf));
    return { rows, steps, now: past.length };
  }

  static unpack({ rows, steps, now }) {
    const strokes = rows.map(decode);
    const history = steps.map((step) => step.map((number) => strokes[number]));
    const drawing = new Drawing(history[now]);
    drawing.past = history.slice(0, now);
    drawing.future = history.slice(now + 1);
    return drawing;
  }

  counts() {
    const foreground = this.strokes.filter((stroke) => stroke.label).length;
    return { foreground, background: this.strokes.length - foreground };
  }
}

// ---- the store: one for a widget, however often it is shown ---------------------------------------------------------

class Store {
  constructor(model) {
    this.model = model;
    this.entries = new Map(); // id -> what the kernel sent of an image; the one used last comes last
    this.drawings = new Map(); // id -> Drawing, kept when the pixels are dropped
    this.waiting = new Map(); // id -> name of the edit that is not on disk yet
    this.known = new Map(); // id -> rows of the strokes that were on disk when this page last heard of them
    this.views = new Set();
    this.edits = 0;
    this.page = Math.random().toString(36).slice(2); // two pages on one kernel hear each other's answers
    model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    const traits = ["index", "images", "message", "answer", "threshold", "status", "share"];
    model.on(traits.map((name) => `change:${name}`).join(" "), () => this.tell("state"));
    this.rescue();
  }

  get ids() {
    return this.model.get("images").map((image) => image.id);
  }

  get current() {
    return this.ids[this.model.get("index")];
  }

  tell(what) {
    for (const view of this.views) view(what);
  }

  show(index) {
    if (index < 0 || index >= this.ids.length) return;
    this.model.set("index", index);
    this.model.save_changes();
  }

  /** Asks for an image unless it is here or on its way. */
  open(id) {
    if (id === undefined) return;
    const entry = this.entries.get(id) ?? { id, levels: null, layers: {} };
    this.entries.delete(id);
    this.entries.set(id, entry);
    const old = [...this.entries.keys()].slice(0, -KEPT);
    for (const other of old) this.drop(other);
    if (entry.asked) return;
    entry.asked = true;
    this.ask(id);
  }

  /** Asks the kernel for an image, and again where no answer comes: a message is lost while a page connects anew. */
  ask(id, times = 0) {
    this.model.send({ kind: "open", id });
    if (times === ASK_AGAIN.length) return;
    setTimeout(() => {
      const entry = this.entries.get(id);
      if (entry && !entry.levels) this.ask(id, times + 1);
    }, ASK_AGAIN[times]);
  }

  drop(id) {
    const { levels, layers } = this.entries.get(id);
    for (const bitmap of [levels, ...Object.values(layers)].flat()) bitmap?.close();
    this.entries.delete(id);
  }

  async receive(message, buffers) {
    if (message.kind === "saved") {
      this.saved(message);
      this.keep();
      return this.tell("ink");
    }
    const entry = this.entries.get(message.id);
    if (!entry) return; // dropped while it was on its way
    if (message.kind === "outlines") {
      entry.rings = rings(buffers[0]);
      return this.tell("marks");
    }
    if (message.kind === "image") {
      const { size, colour, limits, micrometres } = message;
      Object.assign(entry, { size, colour, limits, micrometres });
      if (!this.drawings.has(message.id)) this.drawings.set(message.id, this.recall(message.id, message.strokes));
      if (!this.waiting.has(message.id)) this.known.set(message.id, message.strokes);
      entry.levels = await pyramid(buffers[0]);
      buffers = buffers.slice(1);
      this.tell("image");
    }
    const bitmaps = await Promise.all(buffers.map(pyramid));
    message.layers.forEach((name, i) => {
      entry.layers[name]?.forEach((bitmap) => bitmap.close());
      entry.layers[name] = bitmaps[i];
    });
    entry.regions = message.regions;
    this.tell("layers");
  }

  /** The strokes of an image have changed: to the kernel, and into the browser's copy until they are on disk. */
  commit(id) {
    this.waiting.set(id, this.nextEdit());
    this.keep();
    this.remember(id);
    this.send(id, this.drawings.get(id).strokes.map(encode));
    this.tell("state");
  }

  /** Keeps the history of an image in this tab, so that a reload takes no undo away. */
  remember(id) {
    try {
      sessionStorage.setItem(`${this.shelf}-${id}`, JSON.stringify(this.drawings.get(id).pack()));
    } catch {
      // no storage here, or it is full: strokes are on disk all the same
    }
  }

  /** The drawing of an image with its history, if this tab has one; strokes are what is on disk. */
  recall(id, rows) {
    try {
      const drawing = Drawing.unpack(JSON.parse(sessionStorage.getItem(`${this.shelf}-${id}`)));
      drawing.join(rows);
      return drawing;
    } catch {
      return new Drawing(rows.map(decode));
    }
  }

  nextEdit() {
    return `${this.page}-${++this.edits}`;
  }

  send(id, strokes) {
    this.model.send({ kind: "strokes", id, edit: this.waiting.get(id), strokes, known: this.known.get(id) });
  }

  /** What is on disk now: this page's own edit, or one of another page or notebook, whose strokes join ours. */
  saved({ id, edit, strokes }) {
    const waiting = this.waiting.get(id);
    if (waiting !== undefined && waiting !== edit) return; // a later edit of ours is on its way
    this.waiting.delete(id);
    this.known.set(id, strokes);
    this.drawings.get(id)?.join(strokes);
  }

  get shelf() {
    return `s2l-scribbler-${this.model.get("key")}`;
  }

  keep() {
    const rows = (id) => this.drawings.get(id)?.strokes.map(encode);
    const unsaved = [...this.waiting.keys()].map((id) => [id, rows(id), this.known.get(id)]);
    try {
      if (unsaved.length) localStorage.setItem(this.shelf, JSON.stringify(unsaved));
      else localStorage.removeItem(this.shelf);
    } catch {
      // no storage here, or it is full: the kernel still gets every stroke
    }
  }

  /** Strokes that never reached the disk, because the page or the kernel went away. */
  rescue() {
    let unsaved = [];
    try {
      unsaved = JSON.parse(localStorage.getItem(this.shelf)) ?? [];
    } catch {
      return;
    }
    for (const [id, strokes, known] of unsaved) {
      if (!strokes || !this.ids.includes(id)) continue;
      this.drawings.set(id, new Drawing(strokes.map(decode)));
      if (known) this.known.set(id, known);
      this.waiting.set(id, this.nextEdit());
      this.send(id, strokes);
    }
  }

  counts(id) {
    const image = this.model.get("images").find((other) => other.id === id);
    return image.foreign ? image : this.drawings.get(id)?.counts() ?? image;
  }
}

/** The image, and halved again and again until it is small: each is sharp and quick at its own zoom. */
async function pyramid(buffer) {
  const levels = [await createImageBitmap(new Blob([buffer]))];
  for (let last = levels[0]; Math.max(last.width, last.height) > 1024; last = levels.at(-1)) {
    const size = { resizeWidth: Math.ceil(last.width / 2), resizeHeight: Math.ceil(last.height / 2) };
    levels.push(await createImageBitmap(last, { ...size, resizeQuality: "medium" }));
  }
  return levels;
}

/** Outlines from the kernel's whole numbers: of each its corners [row, column, row, ...], and the box around them. */
function rings(buffer) {
  const numbers = new Int32Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
  const found = [];
  for (let i = 0; i < numbers.length; i += 1 + 2 * numbers[i]) {
    const corners = numbers.subarray(i + 1, i + 1 + 2 * numbers[i]);
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    corners.forEach((value, k) => {
      box[k % 2] = Math.min(box[k % 2], value);
      box[2 + (k % 2)] = Math.max(box[2 + (k % 2)], value);
    });
    found.push({ corners, box });
  }
  return found;
}

// ---- the surface: four canvases and the pointer --------------------------------------------------------------------

class Surface {
  constructor(store) {
    Object.assign(this, { store, tool: "foreground", width: 5, layer: "" });
    Object.assign(this, { inkShown: true, outlined: true, stale: new Set() });
    this.place = { scale: 1, x: 0, y: 0 }; // screen = image * scale + (x, y), in CSS pixels
    this.pointers = new Map();
    this.filter = `s2l-filter-${Math.random().toString(36).slice(2)}`;
    this.canvases = ["picture", "overlay", "ink", "marks"].map((name) => node("canvas", { class: `s2l-${name}` }));
    [this.picture, this.overlay, this.ink, this.marks] = this.canvases.map((canvas) => canvas.getContext("2d"));
    this.ring = node("div", { class: "s2l-ring", hidden: true });
    const hint = "Image to draw on. Shortcuts are listed below it.";
    this.element = node("div", { class: "s2l-stage", tabindex: 0, role: "img", "aria-label": hint });
    this.scaleBar = node("div", { class: "s2l-scale", hidden: true });
    this.element.append(...this.canvases, this.scaleBar, this.ring);
    this.element.insertAdjacentHTML(
      "beforeend",
      `<svg class="s2l-filters" aria-hidden="true"><filter id="${this.filter}" color-interpolation-filters="sRGB"
       x="0" y="0" width="1" height="1"><feColorMatrix type="matrix"/></filter></svg>`,
    );
    this.matrix = this.element.querySelector("feColorMatrix");
    this.canvases[0].style.filter = `url(#${this.filter})`;
    for (const name of ["down", "move", "up", "cancel"]) {
      this.element.addEventListener(`pointer${name}`, (event) => this[name](event));
    }
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.element.addEventListener("pointerleave", () => (this.ring.hidden = true));
    this.element.addEventListener("contextmenu", (e) => (e.preventDefault(), e.stopPropagation()));
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
  }

  get entry() {
    return this.store.entries.get(this.store.current);
  }

  get drawing() {
    return this.store.drawings.get(this.store.current);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.ratio = window.devicePixelRatio || 1;
    for (const canvas of this.canvases) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    this.marked = undefined; // a canvas of another size is blank
    if (this.fitted) this.fit();
    else this.redraw();
  }

  /** Shows the whole image. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!this.entry?.size || !width) return;
    const [rows, columns] = this.entry.size;
    const scale = Math.min(width / columns, height / rows);
    this.place = { scale, x: (width - columns * scale) / 2, y: (height - rows * scale) / 2 };
    this.fitted = true;
    this.redraw();
  }

  zoom(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const scale = Math.min(Math.max(this.place.scale * factor, 0.02), 64);
    const grown = scale / this.place.scale;
    this.place = { scale, x: x - (x - this.place.x) * grown, y: y - (y - this.place.y) * grown };
    this.fitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.place = { ...this.place, x: this.place.x + dx, y: this.place.y + dy };
    this.fitted = false;
    this.redraw();
  }

  /** Brings a region [row, column, radius] into the middle. */
  visit([row, column, radius]) {
    const { clientWidth: width, clientHeight: height } = this.element;
    const scale = Math.min(width, height) / (8 * radius);
    this.place = { scale, x: width / 2 - (column + 0.5) * scale, y: height / 2 - (row + 0.5) * scale };
    this.fitted = false;
    this.redraw();
  }

  contrast(low, high, channel) {
    const slope = 255 / Math.max(high - low, 1);
    const offset = -low / Math.max(high - low, 1);
    const row = (own) => {
      const from = channel < 0 ? own : channel;
      return [0, 1, 2].map((c) => (c === from ? slope : 0)).join(" ") + ` 0 ${offset}`;
    };
    this.matrix.setAttribute("values", `${row(0)} ${row(1)} ${row(2)} 0 0 0 1 0`);
  }

  /** Draws what is named at the next frame, however often it is asked for until then. */
  redraw(...names) {
    for (const name of names.length ? names : ["picture", "overlay", "ink", "marks"]) this.stale.add(name);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      const entry = this.entry;
      if (this.stale.has("picture")) this.drawLevels(this.picture, entry?.levels);
      if (this.stale.has("overlay")) this.drawLevels(this.overlay, entry?.layers[this.layer]);
      if (this.stale.has("ink")) this.drawInk();
      if (this.stale.has("marks")) this.drawMarks();
      this.stale.clear();
    });
  }

  /** Puts a canvas into the image's coordinates: (x, y) from the outer corner of the first pixel. */
  enter(context) {
    const { scale, x, y } = this.place;
    context.setTransform(this.ratio * scale, 0, 0, this.ratio * scale, this.ratio * x, this.ratio * y);
  }

  drawLevels(context, levels) {
    context.resetTransform();
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    if (!levels) return;
    const scale = this.place.scale * this.ratio;
    const level = Math.min(Math.max(Math.floor(-Math.log2(scale)), 0), levels.length - 1);
    context.imageSmoothingEnabled = scale < 2; // enlarged further, pixels are shown as what they are
    this.enter(context);
    context.drawImage(levels[level], 0, 0, levels[0].width, levels[0].height);
  }

  /** What lies above all else. A view that moves takes many outlines along as a picture: to draw them takes frames. */
  drawMarks() {
    clearTimeout(this.resting);
    const { entry, place, corners } = this.marked ?? {};
    if (corners > MANY_CORNERS && entry === this.entry && place !== this.place) {
      this.takeMarksAlong(place);
      this.resting = setTimeout(() => {
        this.marked = undefined;
        this.redraw("marks");
      }, REST);
      return;
    }
    this.drawMarksAnew();
  }

  /** Moves the marks from where they were drawn to where they belong now. */
  takeMarksAlong({ scale, x, y }) {
    const grown = this.place.scale / scale;
    const [right, down] = [this.place.x - x * grown, this.place.y - y * grown];
    this.marks.canvas.style.transform = `translate(${right}px, ${down}px) scale(${grown})`;
    this.drawScale();
  }

  /** Strokes of another program, outlines, circles where to draw, and the scale bar. */
  drawMarksAnew() {
    const context = this.marks;
    context.canvas.style.transform = "";
    this.marked = { entry: this.entry, place: this.place, corners: 0 };
    this.drawLevels(context, this.entry?.layers.foreign);
    if (!this.entry?.size) return;
    this.enter(context);
    if (this.outlined) {
      const { path, corners } = this.outlinesInView();
      this.marked.corners = corners;
      this.twice(context, path, GREEN, 1.5);
    }
    context.setLineDash([8 / this.place.scale, 5 / this.place.scale]);
    for (const [row, column, radius] of this.entry.regions ?? []) {
      const circle = new Path2D();
      circle.arc(column + 0.5, row + 0.5, radius, 0, 2 * Math.PI);
      this.twice(context, circle, "#FFFFFF", 2);
    }
    context.setLineDash([]);
    this.drawScale();
  }

  /** A line of some width on the screen, on a wider black one: seen on bright and on dark cells. */
  twice(context, path, colour, width) {
    for (const [wide, stroke] of [[width + 1.5, "#000000"], [width, colour]]) {
      Object.assign(context, { lineWidth: wide / this.place.scale, strokeStyle: stroke, lineJoin: "round" });
      context.stroke(path);
    }
  }

  /** The outlines that can be seen, no finer than the screen: from afar not every corner counts. */
  outlinesInView() {
    const { scale, x, y } = this.place;
    const view = [-y / scale, -x / scale, (this.element.clientHeight - y) / scale, (this.element.clientWidth - x) / scale];
    const path = new Path2D();
    let drawn = 0;
    for (const { corners, box } of this.entry.rings ?? []) {
      if (!meet(box, view)) continue;
      const count = corners.length / 2;
      const step = Math.max(1, Math.min(Math.floor(1 / scale), Math.floor(count / 8)));
      drawn += Math.ceil(count / step);
      path.moveTo(corners[1], corners[0]);
      for (let i = step; i < count; i += step) path.lineTo(corners[2 * i + 1], corners[2 * i]);
      path.closePath();
    }
    return { path, corners: drawn };
  }

  /** A bar as long as a round number of micrometres, where it is known how large a pixel is. */
  drawScale() {
    const { micrometres } = this.entry;
    this.scaleBar.hidden = !micrometres;
    if (!micrometres) return;
    const perMicrometre = this.place.scale / micrometres;
    const length = LENGTHS.findLast((value) => value * perMicrometre <= 140) ?? LENGTHS[0];
    this.scaleBar.style.width = `${length * perMicrometre}px`;
    this.scaleBar.textContent = `${length} µm`;
  }

  /** [left, top, width, height] of a box on the canvas: whole pixels, with room for the soft edge of a stroke. */
  onScreen([top, left, bottom, right]) {
    const { scale, x, y } = this.place;
    const [from, to] = [Math.floor, Math.ceil];
    const x0 = from(((left + 0.5) * scale + x) * this.ratio) - 1;
    const y0 = from(((top + 0.5) * scale + y) * this.ratio) - 1;
    const x1 = to(((right + 0.5) * scale + x) * this.ratio) + 1;
    const y1 = to(((bottom + 0.5) * scale + y) * this.ratio) + 1;
    return [x0, y0, x1 - x0, y1 - y0];
  }

  /** Draws the strokes; with a box only those that meet it, and nothing outside it changes. */
  drawInk(box) {
    const context = this.ink;
    const area = box ? this.onScreen(box) : [0, 0, context.canvas.width, context.canvas.height];
    context.save();
    context.resetTransform();
    context.beginPath();
    context.rect(...area);
    context.clip();
    context.clearRect(...area);
    this.enter(context);
    const shown = this.inkShown ? this.drawing?.strokes ?? [] : [];
    const near = box && boxOf([box.slice(0, 2), box.slice(2)], 3 / this.place.scale);
    for (const stroke of shown) if (!box || meet(stroke.box, near)) this.paint(stroke);
    context.restore();
  }

  paint({ label, width, points }) {
    const context = this.ink;
    Object.assign(context, { strokeStyle: COLOURS[label], lineWidth: width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(points[0][1] + 0.5, points[0][0] + 0.5);
    for (const [row, column] of points.length > 1 ? points.slice(1) : points) context.lineTo(column + 0.5, row + 0.5);
    context.stroke();
  }

  // -- the pointer: one draws, erases or pans; two fingers pan and zoom

  at(event) {
    const [x, y] = this.offset(event);
    return [(y - this.place.y) / this.place.scale - 0.5, (x - this.place.x) / this.place.scale - 0.5];
  }

  offset(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left - this.element.clientLeft, event.clientY - box.top - this.element.clientTop];
  }

  down(event) {
    this.element.focus({ preventScroll: true });
    if (!this.drawing || !this.entry?.levels) return;
    event.preventDefault();
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.offset(event));
    if (this.pointers.size > 1) this.abandon();
    else if (event.button === 1 || this.spaced || this.tool === "pan") this.gesture = { kind: "pan" };
    else if (this.entry.layers.foreign) this.gesture = { kind: "pan" }; // drawn on in another program
    else if (event.button === 2 || event.buttons & 32 || this.tool === "eraser") this.beginErasing(this.at(event));
    else if (event.button === 0) this.beginStroke(this.at(event));
  }

  beginStroke(point) {
    const label = LABELS.indexOf(this.tool);
    this.gesture = { kind: "draw", label, width: this.width, points: [point] };
    this.enter(this.ink);
    this.paint(this.gesture);
  }

  beginErasing(point) {
    this.gesture = { kind: "erase", before: this.drawing.strokes, last: point };
    this.eraseTo(point);
  }

  move(event) {
    const [x, y] = this.offset(event);
    this.showRing(event, x, y);
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size > 1) return this.pinch(event.pointerId, last, [x, y]);
    if (this.gesture?.kind === "pan") return this.pan(x - last[0], y - last[1]);
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const moved of passed.length ? passed : [event]) {
      if (this.gesture?.kind === "draw") this.drawTo(this.at(moved));
      if (this.gesture?.kind === "erase") this.eraseTo(this.at(moved));
    }
  }

  drawTo(point) {
    const { label, width, points } = this.gesture;
    const last = points.at(-1);
    const step = Math.max(2 * UNIT, 1 / this.place.scale); // finer than the hand, and than the screen, is noise
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < step) return;
    points.push(point);
    this.enter(this.ink);
    this.paint({ label, width, points: [last, point] });
  }

  eraseTo(point) {
    const { last } = this.gesture;
    this.gesture.last = point;
    const radius = this.width / 2;
    const left = this.drawing.strokes.flatMap((stroke) => erase(stroke, last, point, radius));
    const kept = new Set(left);
    const gone = this.drawing.strokes.filter((stroke) => !kept.has(stroke));
    if (!gone.length) return;
    this.drawing.strokes = left;
    this.drawInk(gone.map((stroke) => stroke.box).reduce(union));
  }

  pinch(id, last, now) {
    const other = [...this.pointers].find(([key]) => key !== id)[1];
    const distance = (a) => Math.max(Math.hypot(a[0] - other[0], a[1] - other[1]), 1);
    this.pan((now[0] - last[0]) / 2, (now[1] - last[1]) / 2);
    this.zoom(distance(now) / distance(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const gesture = this.gesture;
    this.gesture = undefined;
    if (gesture?.kind === "draw") {
      const stroke = makeStroke(gesture.label, gesture.width, [...gesture.points, this.at(event)]);
      const [rows, columns] = this.entry.size;
      if (!meet(stroke.box, [-0.5, -0.5, rows - 0.5, columns - 0.5])) return this.redraw("ink"); // beside the image
      this.drawing.change([...this.drawing.strokes, stroke]);
      this.drawInk(union(stroke.box, boxOf(gesture.points, stroke.width / 2))); // now as it will always be drawn
      this.store.commit(this.store.current);
    } else if (gesture?.kind === "erase" && gesture.before !== this.drawing.strokes) {
      const after = this.drawing.strokes;
      this.drawing.strokes = gesture.before;
      this.drawing.change(after);
      this.store.commit(this.store.current);
    }
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.abandon();
  }

  /** Takes back the gesture that is going on. */
  abandon() {
    if (this.gesture?.kind === "erase") this.drawing.strokes = this.gesture.before;
    this.gesture = undefined;
    this.redraw("ink");
  }

  /** Zooms once the image has the focus, so that a page can be scrolled past it; with Ctrl always. */
  wheel(event) {
    if (!event.ctrlKey && !this.element.contains(document.activeElement)) return;
    event.preventDefault();
    const turned = Math.min(Math.max(event.deltaY, -100), 100);
    this.zoom(Math.exp(-turned * 0.002), ...this.offset(event));
  }

  showRing(event, x, y) {
    const side = Math.max(this.width * this.place.scale, 3);
    this.ring.hidden = this.tool === "pan" || this.spaced || event.pointerType === "touch";
    this.ring.dataset.tool = this.tool;
    const transform = `translate(${x - side / 2}px, ${y - side / 2}px)`;
    Object.assign(this.ring.style, { width: `${side}px`, height: `${side}px`, transform });
  }

  travel(step) {
    if (!this.drawing || this.gesture || !this.drawing[step]()) return;
    this.redraw("ink");
    this.store.commit(this.store.current);
  }
}

// ---- the panel: buttons, sliders, words -----------------------------------------------------------------------------

function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  undo: "M7 4 3 8l4 4M3 8h9a5 5 0 0 1 0 10H8",
  redo: "M13 4l4 4-4 4M17 8H8a5 5 0 0 0 0 10h4",
  previous: "M12 4l-6 6 6 6",
  next: "M8 4l6 6-6 6",
  smaller: "M4 10h12",
  larger: "M4 10h12M10 4v12",
  fit: "M3 8V3h5M17 8V3h-5M3 12v5h5M17 12v5h-5",
};

function icon(name) {
  const holder = node("span", { class: "s2l-icon", "aria-hidden": "true" });
  holder.innerHTML = `<svg viewBox="0 0 20 20"><path d="${ICONS[name]}"/></svg>`;
  return holder;
}

const button = (name, click) => node("button", { type: "button", click }, name);
const iconButton = (name, title, click) => {
  return node("button", { type: "button", title, "aria-label": title, click }, icon(name));
};
const group = (label, ...children) => {
  return node("div", { class: "s2l-group", role: "group", "aria-label": label }, ...children);
};

function slider(label, min, max, value, input) {
  const control = node("input", { type: "range", min, max, value, "aria-label": label });
  control.addEventListener("input", () => input(Number(control.value)));
  return control;
}

const labelled = (text, ...controls) => node("label", { class: "s2l-labelled" }, node("span", {}, text), ...controls);

function panel(store, element) {
  const surface = new Surface(store);
  const tools = Object.fromEntries(
    [...LABELS.toReversed(), "eraser", "pan"].map((tool) => {
      const name = tool === "pan" ? "Move" : tool[0].toUpperCase() + tool.slice(1);
      const swatch = node("span", { class: "s2l-swatch", "data-tool": tool, "aria-hidden": "true" });
      return [tool, node("button", { type: "button", click: () => choose(tool) }, swatch, name)];
    }),
  );
  const brush = slider("Brush width in pixels", 1, WIDEST, surface.width, (value) => setWidth(value));
  const brushValue = node("output", {});
  const undo = iconButton("undo", "Undo", () => surface.travel("undo"));
  const redo = iconButton("redo", "Redo", () => surface.travel("redo"));
  const channel = node("select", { "aria-label": "Channel", change: () => setContrast() });
  ["all", "red", "green", "blue"].forEach((name, i) => channel.append(node("option", { value: i - 1 }, name)));
  const channels = labelled("Channel", channel);
  const low = slider("Grey value shown as black", 0, 254, 0, () => setContrast());
  const high = slider("Grey value shown as white", 1, 255, 255, () => setContrast());
  const auto = button("Auto", () => stretch());
  const layer = node("select", { "aria-label": "Overlay", change: () => setLayer(layer.value) });
  const opacity = slider("Opacity of the overlay, in percent", 0, 100, 60, () => setOpacity());
  const previous = iconButton("previous", "Previous image", () => store.show(store.model.get("index") - 1));
  const next = iconButton("next", "Next image", () => store.show(store.model.get("index") + 1));
  const choice = { class: "s2l-images", "aria-label": "Image", change: () => store.show(chooser.selectedIndex) };
  const chooser = node("select", choice);
  const left = node("span", { class: "s2l-left", role: "status" });
  const whereNext = button("Where to draw next", () => visit());
  const saved = node("span", { class: "s2l-saved", role: "status" });
  const said = node("span", { class: "s2l-answer", role: "status" });
  const threshold = slider("Threshold: where foreground begins", 0.05, 0.95, 0.5, (value) => setThreshold(value));
  threshold.step = 0.05;
  threshold.addEventListener("change", () => countAll());
  const thresholdValue = node("span", { class: "s2l-value" });
  const usual = button("Reset", () => {
    setThreshold(store.model.get("answer").usual);
    countAll();
  });
  usual.title = "The threshold that gets most of the held-out strokes right";
  const answerBar = node("div", { class: "s2l-bar" }, said, labelled("Threshold", threshold, thresholdValue), usual);
  const learned = node("progress", { max: 1, "aria-label": "Share of the round that is done" });
  const status = node("span", { class: "s2l-status", role: "status" });
  const stop = button("Stop", () => store.model.send({ kind: "stop" }));
  const learning = node("div", { class: "s2l-bar" }, learned, status, stop);
  const alert = node("div", { class: "s2l-message", role: "alert", hidden: true });
  const busy = node("div", { class: "s2l-busy" }, "The image is on its way from the kernel …");
  surface.element.append(busy);

  const shortcuts = [
    ["F", "foreground", () => choose("foreground")],
    ["B", "background", () => choose("background")],
    ["E", "eraser (or right button)", () => choose("eraser")],
    ["[ ]", "brush width", null],
    ["Z", "undo", () => surface.travel("undo")],
    ["Shift Z", "redo", () => surface.travel("redo")],
    ["Space", "hold to move", null],
    ["+ −", "zoom (or wheel)", null],
    ["0", "whole image", () => surface.fit()],
    ["C", "contrast", () => stretch()],
    ["O", "next overlay", () => cycle()],
    ["H", "hide strokes", () => hideInk()],
    ["N", "hide outlines", () => hideOutlines()],
    ["W", "where to draw next", () => visit()],
    [", .", "previous, next image", null],
    ["Esc", "give up the stroke", () => surface.abandon()],
  ];
  const keys = Object.fromEntries(shortcuts.filter(([, , run]) => run).map(([key, , run]) => [key.toLowerCase(), run]));
  Object.assign(keys, { "ctrl z": keys.z, "ctrl y": keys["shift z"], "ctrl shift z": keys["shift z"] });
  Object.assign(keys, { "[": () => setWidth(surface.width - 1), "]": () => setWidth(surface.width + 1) });
  Object.assign(keys, { escape: keys.esc, "+": () => surface.zoom(1.25), "=": () => surface.zoom(1.25), "-": () => surface.zoom(0.8) });
  Object.assign(keys, { ",": () => previous.click(), ".": () => next.click(), "ctrl s": () => {} });
  Object.assign(keys, { arrowleft: () => surface.pan(40, 0), arrowright: () => surface.pan(-40, 0) });
  Object.assign(keys, { arrowup: () => surface.pan(0, 40), arrowdown: () => surface.pan(0, -40) });

  element.classList.add("s2l-scribbler");
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", "Drawing scribbles");
  element.append(
    node(
      "div",
      { class: "s2l-bar" },
      group("Tool", ...Object.values(tools)),
      labelled("Brush", brush, brushValue),
      group("History", undo, redo),
      group(
        "Zoom",
        iconButton("smaller", "Zoom out", () => surface.zoom(0.8)),
        iconButton("larger", "Zoom in", () => surface.zoom(1.25)),
        iconButton("fit", "Show the whole image", () => surface.fit()),
      ),
    ),
    node(
      "div",
      { class: "s2l-bar" },
      labelled("Overlay", layer),
      labelled("Opacity", opacity),
      channels,
      labelled("Contrast", low, high),
      auto,
    ),
    alert,
    answerBar,
    surface.element,
    learning,
    node("div", { class: "s2l-bar" }, group("Images", previous, chooser, next), whereNext, left, saved),
    node("ul", { class: "s2l-keys", "aria-label": "Keyboard shortcuts" }, ...shortcuts.map(listed)),
  );

  function listed([key, text]) {
    const parts = key.split(" ").map((part) => node("kbd", {}, part));
    return node("li", {}, ...parts, ` ${text}`);
  }

  function choose(tool) {
    surface.tool = tool;
    surface.element.dataset.tool = tool;
    update();
  }

  function setWidth(value) {
    surface.width = Math.min(Math.max(value, 1), WIDEST);
    brush.value = surface.width;
    update();
  }

  function setContrast() {
    surface.contrast(Number(low.value), Number(high.value), Number(channel.value));
  }

  function stretch() {
    [low.value, high.value] = surface.entry?.limits ?? [0, 255];
    setContrast();
  }

  function setLayer(name) {
    surface.layer = layer.value = name;
    surface.redraw("overlay");
  }

  function setOpacity() {
    surface.canvases[1].style.opacity = opacity.value / 100;
  }

  function cycle() {
    layer.selectedIndex = (layer.selectedIndex + 1) % layer.options.length;
    setLayer(layer.value);
  }

  function hideInk() {
    surface.inkShown = !surface.inkShown;
    surface.redraw("ink");
  }

  function hideOutlines() {
    surface.outlined = !surface.outlined;
    surface.redraw("marks");
  }

  function setThreshold(value) {
    store.model.set("threshold", value);
    store.model.save_changes();
  }

  /** The slider has come to rest. Says where, since what it said on its way may still wait for its turn. */
  function countAll() {
    store.model.send({ kind: "all", threshold: store.model.get("threshold") });
  }

  /** Leads to the next place of this image, and after its last one to the next image that has any. */
  function visit() {
    const regions = surface.entry?.regions ?? [];
    surface.visited = (surface.visited ?? -1) + 1;
    if (surface.visited < regions.length) return surface.visit(regions[surface.visited]);
    const images = store.model.get("images");
    const here = store.model.get("index");
    const order = [...images.keys()].map((k) => (here + 1 + k) % images.length);
    const next = order.find((k) => images[k].places);
    if (next === undefined) return;
    surface.visited = undefined;
    if (next === here) return visit();
    surface.led = true; // to the first place, once that image is there
    store.show(next);
  }

  /** How many objects the answer has that would be exported now, in words. */
  function counted() {
    const images = store.model.get("images");
    const { name, things } = store.model.get("answer");
    const here = images[store.model.get("index")].objects;
    const known = images.filter(({ objects }) => objects >= 0);
    const sum = known.reduce((total, { objects }) => total + objects, 0);
    const all = known.length === images.length ? `${sum} in all ${images.length} images` : "other images are counted …";
    return `${name}: ${here < 0 ? "…" : here} ${things} here, ${all}`;
  }

  /** Names the layers there are, and keeps the chosen one. None is shown unasked: outlines say more than a veil. */
  function listLayers() {
    const names = Object.keys(LAYERS).filter((name) => surface.entry?.layers[name]);
    const before = [...layer.options].slice(1).map((option) => option.value);
    if (names.join() !== before.join() || !layer.options.length) {
      const options = ["", ...names].map((name) => node("option", { value: name }, LAYERS[name] ?? "none"));
      layer.replaceChildren(...options);
    }
    surface.layer = layer.value = names.includes(surface.layer) ? surface.layer : "";
    layer.disabled = opacity.disabled = !names.length;
  }

  /** What an image still lacks, in words; empty when both classes are drawn. */
  function lacks(id) {
    const { foreground, background } = store.counts(id);
    return [!foreground && "foreground", !background && "background"].filter(Boolean).join(" and ");
  }

  function update() {
    const { model, ids, current } = store;
    const drawing = surface.drawing;
    for (const [tool, button] of Object.entries(tools)) button.setAttribute("aria-pressed", tool === surface.tool);
    brushValue.textContent = `${surface.width} px`;
    undo.disabled = !drawing?.past.length;
    redo.disabled = !drawing?.future.length;
    previous.disabled = model.get("index") === 0;
    next.disabled = model.get("index") >= ids.length - 1;
    const images = model.get("images");
    const count = ({ objects }) => (objects >= 0 ? ` · ${objects}` : "");
    const names = images.map((image) => `${lacks(image.id) ? "○" : "●"} ${image.id}${count(image)}`);
    if (names.join("\n") !== [...chooser.options].map((option) => option.textContent).join("\n")) {
      chooser.replaceChildren(...names.map((name) => node("option", {}, name)));
    }
    chooser.selectedIndex = model.get("index");
    const open = ids.filter(lacks);
    const here = current !== undefined && lacks(current);
    left.textContent = !open.length
      ? `All ${ids.length} drawn on`
      : `${ids.length - open.length} of ${ids.length} drawn on${here ? ` · here still without ${here}` : ""}`;
    whereNext.disabled = !images.some(({ places }) => places);
    const { usual: chosen } = model.get("answer");
    answerBar.hidden = chosen === undefined;
    if (!answerBar.hidden) said.textContent = counted();
    threshold.value = model.get("threshold");
    thresholdValue.textContent = model.get("threshold").toFixed(2);
    usual.disabled = Math.abs(model.get("threshold") - chosen) < 1e-6;
    learning.hidden = !model.get("status");
    learned.value = Math.max(model.get("share"), 0);
    learned.hidden = stop.hidden = model.get("share") < 0;
    status.textContent = model.get("status");
    busy.hidden = Boolean(surface.entry?.levels);
    alert.textContent = model.get("message");
    alert.hidden = !model.get("message");
    if (images[model.get("index")]?.foreign) saved.textContent = "Strokes of another program: they count, draw there";
    else if (!store.waiting.size) saved.textContent = drawing?.strokes.length ? "Saved" : "";
    else if (saved.textContent === "Saved" || !saved.textContent) saved.textContent = "Saving …";
    clearTimeout(surface.patience);
    if (store.waiting.size) surface.patience = setTimeout(() => (saved.textContent = WAITING), 1500);
  }

  function hear(what) {
    if (what === "state" && surface.seen !== store.current) {
      Object.assign(surface, { seen: store.current, fitted: true, visited: undefined });
      surface.abandon();
      store.open(store.current);
      what = "image";
    }
    if (what === "image" && surface.entry?.levels) {
      channels.hidden = !surface.entry.colour;
      stretch();
      if (surface.fitted) surface.fit();
      if (surface.led) visit();
      surface.led = false;
      store.open(store.ids[store.model.get("index") + 1]); // the next one, in advance
      store.open(store.current);
    }
    if (what === "ink" || what === "marks") surface.redraw(what);
    if (what === "layers" || what === "image") {
      listLayers();
      surface.redraw();
    }
    update();
  }

  function onKey(event) {
    event.stopPropagation(); // else JupyterLab takes X for "cut the cell"
    if (event.target.matches("select, input:not([type=range])")) return;
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return;
    if (event.key === " " && event.target === surface.element) {
      surface.spaced = event.type === "keydown";
      surface.element.classList.toggle("s2l-moving", surface.spaced);
      event.preventDefault();
    }
    const held = [(event.ctrlKey || event.metaKey) && "ctrl", event.shiftKey && /^[a-z]$/i.test(event.key) && "shift"];
    const run = keys[[...held.filter(Boolean), event.key.toLowerCase()].join(" ")];
    if (event.type === "keyup" || !run || event.altKey) return;
    event.preventDefault();
    run();
  }

  element.addEventListener("keydown", onKey);
  element.addEventListener("keyup", onKey);
  surface.fitted = true;
  surface.seen = store.current;
  choose("foreground");
  setOpacity();
  store.views.add(hear);
  store.open(store.current);
  hear("image");
  return () => {
    store.views.delete(hear);
    surface.observer.disconnect();
    clearTimeout(surface.patience);
  };
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
    },
    render({ el }) {
      return panel(store, el.appendChild(node("div")));
    },
  };
};
