// The picture of many heads: all small, the chosen one large, read and zoomed by pointer and keys. After pattern.js
// in the same function. Nothing is asked of a network.
const SMALL = 88;
const HOW = "Drag over a region to zoom, double click to reset; Ctrl and the wheel zoom too, + and - by keyboard. "
  + "A pixel that covers several cells shows the largest. ";
const SCALES = [["square root", 1 / 2], ["fourth root", 1 / 4], ["linear", 1]];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function canvas(width, height) {
  const ratio = window.devicePixelRatio || 1;
  const made = element("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  made.style.width = `${width}px`;
  made.style.height = `${height}px`;
  made.getContext("2d").scale(ratio, ratio);
  return made;
}

function drawLarge(state) {
  const { base, head, region, tokens } = state, context = base.getContext("2d"), ratio = base.width / WIDTH;
  context.clearRect(0, 0, WIDTH, HEIGHT);
  const colours = palette(head.colour, state.exponent);
  paint(context, Math.round(LEFT * ratio), Math.round(TOP * ratio), Math.round(SIDE * ratio), head, region, colours);
  drawAxes(context, tokens, region);
  if (head.window) drawWindow(context, head, region);
  const { q0, q1, k0, k1 } = region;
  const shown = `queries ${q0} to ${q1 - 1}, keys ${k0} to ${k1 - 1}`;
  state.over.setAttribute("aria-label", `attention of head ${head.label}, ${shown}; arrow keys read single cells`);
  state.reset.disabled = q0 === 0 && k0 === 0 && q1 === tokens.length && k1 === tokens.length;
  state.title.style.borderColor = head.colour;
  state.title.firstChild.textContent = head.label;
  const reach = head.window && head.window < tokens.length;
  state.window.textContent = reach ? ` Dashed: query − key = ${head.window}, the first key out of reach.` : "";
  drawOver(state);
}

// What changes with the pointer: the cell that is told of, or the region that is being chosen.
function drawOver(state) {
  const { over, cell, region, drag } = state, context = over.getContext("2d");
  context.clearRect(0, 0, WIDTH, HEIGHT);
  Object.assign(context, { strokeStyle: INK, lineWidth: 1 });
  if (drag?.to) {
    context.fillStyle = "rgba(31, 41, 51, 0.12)";
    const sides = [drag.x, drag.y, drag.to.x - drag.x, drag.to.y - drag.y];
    context.fillRect(...sides);
    context.strokeRect(...sides);
  } else if (cell) {
    const [width, height] = [SIDE / (region.k1 - region.k0), SIDE / (region.q1 - region.q0)];
    const [x, y] = [LEFT + (cell.key - region.k0) * width, TOP + (cell.query - region.q0) * height];
    context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  }
}

function tell(state, cell) {
  state.cell = cell;
  state.output.textContent = cell ? told(state.head, state.tokens, cell) : "";
  drawOver(state);
  if (!cell) return;
  const { region, output } = state, scale = state.over.getBoundingClientRect().width / WIDTH;
  const x = LEFT + ((cell.key + 1 - region.k0) / (region.k1 - region.k0)) * SIDE + 12;
  const y = TOP + ((cell.query + 1 - region.q0) / (region.q1 - region.q0)) * SIDE + 12;
  const [left, top, wide, high] = [x * scale, y * scale, output.offsetWidth, output.offsetHeight];
  output.style.left = `${left + wide > WIDTH * scale ? Math.max(0, left - wide - 24) : left}px`;
  output.style.top = `${top + high > HEIGHT * scale ? top - high - 24 : top}px`;
}

function pointed(state, event) {
  const box = state.over.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * WIDTH, y = ((event.clientY - box.top) / box.height) * HEIGHT;
  return { x: Math.min(Math.max(x, LEFT), LEFT + SIDE), y: Math.min(Math.max(y, TOP), TOP + SIDE), inside:
    x >= LEFT && x < LEFT + SIDE && y >= TOP && y < TOP + SIDE };
}

function cellAt({ q0, q1, k0, k1 }, { x, y }) {
  const query = q0 + Math.floor(((y - TOP) / SIDE) * (q1 - q0));
  const key = k0 + Math.floor(((x - LEFT) / SIDE) * (k1 - k0));
  return { query: Math.min(query, q1 - 1), key: Math.min(key, k1 - 1) };
}

// A run of at least 4 positions, around the middle of what was asked for, within the prompt.
function run(from, to, count) {
  const length = Math.min(count, Math.max(4, Math.round(to - from)));
  const start = Math.min(Math.max(0, Math.round((from + to - length) / 2)), count - length);
  return [start, start + length];
}

function zoomTo(state, region) {
  const count = state.tokens.length;
  const [q0, q1] = run(region.q0, region.q1, count), [k0, k1] = run(region.k0, region.k1, count);
  state.region = { q0, q1, k0, k1 };
  tell(state, null);
  drawLarge(state);
}

// By `factor`, the cell that is told of, or the middle, staying where it is.
function zoomBy(state, factor, around = state.cell) {
  const { q0, q1, k0, k1 } = state.region;
  const query = around ? around.query + 0.5 : (q0 + q1) / 2, key = around ? around.key + 0.5 : (k0 + k1) / 2;
  const zoomed = (at, edge) => at + (edge - at) * factor;
  const region = { q0: zoomed(query, q0), q1: zoomed(query, q1), k0: zoomed(key, k0), k1: zoomed(key, k1) };
  zoomTo(state, region);
  if (around) tell(state, around);
}

const whole = (state) => zoomTo(state, { q0: 0, q1: state.tokens.length, k0: 0, k1: state.tokens.length });

function followPointer(state) {
  const { over } = state;
  over.onpointerdown = (event) => {
    if (event.button || !pointed(state, event).inside) return;
    state.drag = pointed(state, event);
    over.setPointerCapture(event.pointerId);
  };
  over.onpointermove = (event) => {
    const at = pointed(state, event), { drag } = state;
    if (drag && Math.hypot(at.x - drag.x, at.y - drag.y) > 5) drag.to = at;
    tell(state, drag?.to || !at.inside ? null : cellAt(state.region, at));
  };
  over.onpointerup = () => {
    const { drag, region } = state;
    state.drag = null;
    if (!drag?.to) return;
    const [left, right] = [drag.x, drag.to.x].sort((a, b) => a - b);
    const [top, bottom] = [drag.y, drag.to.y].sort((a, b) => a - b);
    const from = cellAt(region, { x: left, y: top }), to = cellAt(region, { x: right, y: bottom });
    zoomTo(state, { q0: from.query, q1: to.query + 1, k0: from.key, k1: to.key + 1 });
  };
  over.onpointercancel = () => { state.drag = null; };
  over.onpointerleave = () => tell(state, null);
  over.ondblclick = () => whole(state);
  over.addEventListener("wheel", (event) => {
    const at = pointed(state, event);
    if (!event.ctrlKey || !at.inside) return; // without Ctrl the page scrolls
    event.preventDefault();
    zoomBy(state, event.deltaY < 0 ? 1 / 1.5 : 1.5, cellAt(state.region, at));
  }, { passive: false });
}

function followKeys(state) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  state.over.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") zoomBy(state, 1 / 2);
    else if (event.key === "-") zoomBy(state, 2);
    else if (event.key === "Escape" || event.key === "0") whole(state);
    else if (moves[event.key]) step(state, moves[event.key], event.shiftKey ? 10 : 1);
    else return;
    event.preventDefault();
  };
  state.over.onblur = () => tell(state, null);
}

// One cell on; the region follows where it would leave it.
function step(state, [down, right], far) {
  const last = state.tokens.length - 1, { q0, q1, k0, k1 } = state.region;
  const { query, key } = state.cell ?? { query: q1 - 1 - down * far, key: k0 - right * far };
  const inside = (at) => Math.min(Math.max(at, 0), last);
  const cell = { query: inside(query + down * far), key: inside(key + right * far) };
  const shift = (at, from, to) => Math.min(0, at - from) + Math.max(0, at - to + 1);
  const [dq, dk] = [shift(cell.query, q0, q1), shift(cell.key, k0, k1)];
  if (dq || dk) zoomTo(state, { q0: q0 + dq, q1: q1 + dq, k0: k0 + dk, k1: k1 + dk });
  tell(state, cell);
}

// The heads as radio buttons, which arrow keys step through; each with its picture.
function selector(state) {
  const name = `head-${Math.random().toString(36).slice(2)}`;
  const legend = element("legend", { textContent: `${state.heads.length} heads: click, or arrow keys` });
  const field = element("fieldset", {}, legend);
  state.small = state.heads.map((head, at) => {
    const input = element("input", { type: "radio", name, checked: at === state.first }), picture = canvas(SMALL, SMALL);
    input.onchange = () => {
      state.head = head;
      tell(state, null);
      drawLarge(state);
      drawBar(state);
    };
    const text = element("span", {}, element("b", { textContent: head.label }));
    text.style.borderColor = head.colour;
    field.append(element("label", {}, input, picture, text));
    return picture;
  });
  field.hidden = state.heads.length === 1;
  return field;
}

function drawSmall(state) {
  const region = { q0: 0, q1: state.tokens.length, k0: 0, k1: state.tokens.length };
  state.small.forEach((picture, at) => {
    const head = state.heads[at];
    paint(picture.getContext("2d"), 0, 0, picture.width, head, region, palette(head.colour, state.exponent));
  });
}

function drawBar(state) {
  const [zero, low, bar, high] = state.bar.children;
  zero.style.background = `rgb(${ZERO})`;
  bar.style.background = `linear-gradient(to right, #fff, ${state.head.colour})`;
  low.textContent = "exactly 0; above 0";
  high.textContent = `1; the middle is ${Number((0.5 ** (1 / state.exponent)).toPrecision(2))}`;
}

function controls(state) {
  const scale = element("select", { ariaLabel: "scale of the colours" });
  SCALES.forEach(([name, exponent]) => scale.append(element("option", { textContent: name, value: exponent })));
  scale.onchange = () => {
    state.exponent = Number(scale.value);
    drawSmall(state);
    drawLarge(state);
    drawBar(state);
  };
  const button = (text, ariaLabel, onclick) =>
    element("button", { type: "button", textContent: text, ariaLabel, onclick });
  state.title = element("span", { className: "neolens-title" }, element("b"));
  const swatch = element("i", { className: "neolens-swatch" });
  state.bar = element("div", { className: "neolens-bar" }, swatch, element("span"), element("i"), element("span"));
  state.reset = button("reset", "show the whole pattern", () => whole(state));
  const nearer = button("+", "zoom in", () => zoomBy(state, 1 / 2, null));
  const farther = button("−", "zoom out", () => zoomBy(state, 2, null));
  const zoom = element("span", {}, nearer, " ", farther, " ", state.reset);
  const choice = element("span", {}, "colours: ", scale);
  return [element("div", { className: "neolens-row" }, state.title, choice, zoom), state.bar];
}

window.neolensAttention = async (target, { tokens, heads, first, precision }) => {
  const state = { tokens, first, exponent: SCALES[0][1], cell: null, drag: null };
  state.heads = await Promise.all(heads.map((head) => unpacked(head, tokens.length)));
  state.head = state.heads[first];
  state.base = canvas(WIDTH, HEIGHT);
  state.over = canvas(WIDTH, HEIGHT);
  Object.assign(state.over, { tabIndex: 0, role: "img" });
  state.output = element("output");
  state.window = element("span");
  const note = element("p", { className: "neolens-note" }, HOW, precision, state.window);
  const plot = element("div", { className: "neolens-plot" }, state.base, state.over, state.output);
  const picture = element("div", { className: "neolens-attention" });
  picture.append(selector(state), element("div", { className: "neolens-large" }, ...controls(state), plot, note));
  target.replaceChildren(picture);
  followPointer(state);
  followKeys(state);
  drawSmall(state);
  drawBar(state);
  whole(state);
};
