// An attention pattern on a canvas: codes unpacked, cells painted, axes, and what a cell says. With attention.js
// one script. Codes stand for (code / 255) ** 4, and code 0 for an exact 0 alone (packing.py).
const LEVELS = 255, POWER = 4, ZERO = [222, 227, 232], INK = "#1f2933";
const SIDE = 520, LEFT = 96, TOP = 6, RIGHT = 8, BELOW = 96, FONT = "12px system-ui, sans-serif";
const WIDTH = LEFT + SIDE + RIGHT, HEIGHT = TOP + SIDE + BELOW;

const valueOf = (code) => (code / LEVELS) ** POWER;

// The most by which the value can differ from what its code stands for.
function precisionOf(code) {
  const beyond = code < LEVELS ? code + 0.5 : code - 0.5;
  return code ? Math.abs(beyond ** POWER - code ** POWER) / LEVELS ** POWER : 0;
}

// Of each query only the keys that it sees are there, `width` at most: those of query q begin at starts[q] + its first.
async function unpacked(head, count) {
  const bytes = Uint8Array.from(atob(head.cells), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const codes = new Uint8Array(await new Response(stream).arrayBuffer()), starts = new Uint32Array(count);
  for (let query = 0, at = 0; query < count; query++) {
    const first = Math.max(0, query - head.width + 1);
    starts[query] = at - first;
    at += query + 1 - first;
  }
  const { label, colour, window: reach, width } = head;
  return { label, colour, window: reach, width, codes, starts };
}

const codeAt = (head, query, key) =>
  key > query || query - key >= head.width ? 0 : head.codes[head.starts[query] + key];

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

// The colour of each code, from white to the colour of the head's kind; grey is an exact 0.
function palette(colour, exponent) {
  const full = rgb(colour), colours = new Uint32Array(LEVELS + 1);
  for (let code = 0; code <= LEVELS; code++) {
    const share = valueOf(code) ** exponent;
    const [r, g, b] = code ? full.map((part) => Math.round(255 + (part - 255) * share)) : ZERO;
    colours[code] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return colours;
}

// The first cell of each pixel, and the one after its last.
function spans(from, to, pixels) {
  const first = new Uint32Array(pixels), after = new Uint32Array(pixels), each = (to - from) / pixels;
  for (let at = 0; at < pixels; at++) {
    first[at] = Math.min(to - 1, Math.floor(from + at * each + 1e-6));
    after[at] = Math.max(first[at] + 1, Math.min(to, Math.ceil(from + (at + 1) * each - 1e-6)));
  }
  return { first, after };
}

// Cells as pixels; one that covers several cells shows the largest.
function paint(context, x, y, size, head, region, colours) {
  const image = new ImageData(size, size), pixels = new Uint32Array(image.data.buffer);
  const rows = spans(region.q0, region.q1, size), columns = spans(region.k0, region.k1, size);
  for (let row = 0; row < size; row++) {
    const [q0, q1] = [rows.first[row], rows.after[row]];
    if (row && q0 === rows.first[row - 1] && q1 === rows.after[row - 1]) {
      pixels.copyWithin(row * size, (row - 1) * size, row * size);
      continue;
    }
    for (let column = 0; column < size; column++) {
      let largest = 0;
      for (let query = q0; query < q1; query++) {
        for (let key = columns.first[column]; key < columns.after[column]; key++) {
          largest = Math.max(largest, codeAt(head, query, key));
        }
      }
      pixels[row * size + column] = colours[largest];
    }
  }
  context.putImageData(image, x, y);
}

// A value to the digit that is known of it, with the most by which it can be off, rounding included.
function written(code) {
  const value = valueOf(code), off = precisionOf(code);
  if (code === 1) return `above 0, below ${(value + off).toExponential(1)}`;
  const place = Math.floor(Math.log10(off)), known = Math.ceil(off / 10 ** place + 0.5) * 10 ** place;
  if (place >= -5) return `${value.toFixed(-place)} ± ${known.toFixed(-place)}`;
  return `${value.toExponential(Math.floor(Math.log10(value)) - place)} ± ${known.toExponential(0)}`;
}

function told(head, tokens, { query, key }) {
  const where = `query ${query} “${tokens[query]}”\nkey ${key} “${tokens[key]}”`;
  if (key > query) return `${where}\nexactly 0: the key comes after the query`;
  const back = `${where}, ${query - key} back\n`, code = codeAt(head, query, key);
  if (code) return `${back}attention ${written(code)}`;
  const out = head.window && query - key >= head.window;
  return `${back}exactly 0${out ? `: beyond the window of ${head.window}` : ""}`;
}

// Ticks at every token where there is room for them, named by it; else at round positions.
function axis(from, to) {
  const room = SIDE / (to - from);
  if (room >= 12) return { step: 1, room };
  const steps = [1, 2, 5].flatMap((digit) => [1, 10, 100, 1000, 10000].map((power) => digit * power));
  return { step: steps.sort((a, b) => a - b).find((step) => step * room >= 36), room };
}

function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const letters = Array.from(text);
  while (letters.length && context.measureText(`${letters.join("")}…`).width > width) letters.pop();
  return `${letters.join("")}…`;
}

function ticks(context, tokens, from, to, put) {
  const { step, room } = axis(from, to);
  for (let at = Math.ceil(from / step) * step; at < to; at += step) {
    const name = step === 1 ? `${shortened(context, tokens[at], 52)} (${at})` : `${at}`;
    put((at - from + 0.5) * room, name);
  }
}

function drawAxes(context, tokens, { q0, q1, k0, k1 }) {
  Object.assign(context, { font: FONT, fillStyle: INK, strokeStyle: "#b8c2cc", lineWidth: 1, textBaseline: "middle" });
  context.strokeRect(LEFT - 0.5, TOP - 0.5, SIDE + 1, SIDE + 1);
  context.textAlign = "right";
  ticks(context, tokens, q0, q1, (y, name) => context.fillText(name, LEFT - 6, TOP + y));
  ticks(context, tokens, k0, k1, (x, name) => turned(context, LEFT + x, TOP + SIDE + 6, name));
  context.textAlign = "center";
  context.fillStyle = "#616e7c";
  context.fillText("key (source)", LEFT + SIDE / 2, TOP + SIDE + (axis(k0, k1).step === 1 ? BELOW - 10 : 50));
  turned(context, 9, TOP + SIDE / 2, "query (destination)");
}

function turned(context, x, y, text) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.fillText(text, 0, 0);
  context.restore();
}

// Query - key = window, through the middle of the first cells that are out of reach.
function drawWindow(context, head, { q0, q1, k0, k1 }) {
  const x = (key) => LEFT + ((key + 0.5 - k0) / (k1 - k0)) * SIDE;
  const y = (query) => TOP + ((query + 0.5 - q0) / (q1 - q0)) * SIDE;
  context.save();
  context.beginPath();
  context.rect(LEFT, TOP, SIDE, SIDE);
  context.clip();
  context.beginPath();
  Object.assign(context, { strokeStyle: INK, lineWidth: 1.5 });
  context.setLineDash([6, 4]);
  context.moveTo(x(-0.5), y(head.window - 0.5));
  context.lineTo(x(q1), y(q1 + head.window));
  context.stroke();
  context.restore();
}
