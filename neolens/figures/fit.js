// Lays a figure out for the width that there is. Where its panels would be too narrow side by side, they are drawn one
// below the other, each under its own title; titles and captions are broken into lines, a legend that does not fit
// beside the title is drawn below, and the figure is as high as all that needs.
const drawFigure = (() => {
const NARROW = 720, PANEL = 280, MAP = 130, COMPACT = 110; // pixels: of a page, and of a panel side by side with others
const TITLE = 18, CAPTION = 13, PANEL_TITLE = 16, LINE = 1.32; // sizes of fonts where none is given, and of a line
const ink = document.createElement("canvas").getContext("2d");

function measured(text, size, bold = false) {
  ink.font = `${bold ? "bold " : ""}${size}px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif`;
  return ink.measureText(text).width;
}

const ENTITIES = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&#36;": "$", "&amp;": "&" };
const decoded = (text) => text.replace(/&(?:lt|gt|quot|#x27|#36|amp);/g, (entity) => ENTITIES[entity]);

// Markup as lines that are at most `width` wide, words whole; a number stays on the line of the word before it.
function broken(text, width, size) {
  const lines = [], bound = text.replace(/([^,;:.>]) (?=\d)/g, "$1\u00a0").replace(/(\d) (?=%)/g, "$1\u00a0");
  let line = "", used = 0, bold = false, gap = "";
  for (const part of bound.split(/(<[^<>]*>| +)/)) {
    if (/^ +$/.test(part)) gap = used ? " " : "";
    else if (/^<\/?b>$/.test(part)) [bold, line, gap] = [part === "<b>", line + (part === "<b>" ? gap : "") + part,
      part === "<b>" ? "" : gap];
    else if (part.startsWith("<")) line += part;
    else if (part) {
      const wide = measured(decoded(part), size, bold), space = gap ? 0.3 * size : 0;
      if (used && used + space + wide > width && (gap || line.endsWith("<b>"))) {
        lines.push(line.replace(/<b>$/, ""));
        line = (line.endsWith("<b>") ? "<b>" : "") + part;
        used = wide;
      } else [line, used] = [line + gap + part, used + space + wide];
      gap = "";
    }
  }
  return [...lines, line];
}

const textWidth = (text, size) => measured(decoded(text.replace(/<[^<>]*>/g, "")), size);
const rows = (text) => (text ? text.split("<br>") : []);
const fits = (text, width, size) => rows(text).every((line) => broken(line, width, size).length === 1);

// The panels with a trace: their axes, the column and the row that each is in, from the top left on.
function panelsOf(layout, data) {
  const drawn = new Set(data.map(({ xaxis = "x", yaxis = "y" }) => `${xaxis} ${yaxis}`)), panels = [];
  for (const name of Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key))) {
    const x = layout[name], y = layout[(x.anchor ?? "y").replace("y", "yaxis")];
    if (!x.domain || !y?.domain || !drawn.has(`${name.replace("axis", "")} ${x.anchor ?? "y"}`)) continue;
    panels.push({ x, y, left: x.domain[0], right: x.domain[1], bottom: y.domain[0], top: y.domain[1] });
  }
  const order = (values) => [...new Set(values)].sort((a, b) => a - b);
  const lefts = order(panels.map(({ left }) => left)), tops = order(panels.map(({ top }) => -top));
  for (const panel of panels) Object.assign(panel, { col: lefts.indexOf(panel.left), row: tops.indexOf(-panel.top) });
  return panels.sort((a, b) => a.row - b.row || a.col - b.col);
}

const near = (a, b) => Math.abs(a - b) < 1e-3;
const onPaper = (note) => note.xref === "paper" && note.yref === "paper" && note.text;

// The title over a panel, which may be that of its column, and the one beside its row.
function titlesOf(panel, notes) {
  const over = notes.filter((note) => onPaper(note) && !note.textangle && near(note.x, (panel.left + panel.right) / 2)
    && note.y > panel.top - 1e-3).sort((a, b) => a.y - b.y);
  const middle = (panel.top + panel.bottom) / 2;
  const beside = notes.filter((note) => onPaper(note) && note.textangle && near(note.y, middle));
  return { over: over[0], beside: beside[0] };
}

const sharesAxis = (panels) => panels.every(({ y }) => y.matches || panels.some((one) => one.y !== y && one.y.matches));

// How many panels go side by side: as many as the figure has, or fewer where these would be too narrow.
function columnsFor(panels, data, inner, width, compact) {
  const most = Math.max(...panels.map(({ col }) => col)) + 1;
  if (most === 1 || (width < NARROW && !compact)) return 1;
  const least = compact ? COMPACT : data.every(({ type }) => type === "heatmap") ? MAP : PANEL;
  const wide = (count) => (inner - 28 * (count - 1)) / count;
  if (wide(most) >= least) return most;
  const shared = sharesAxis(panels);
  const labelled = panels.every(({ y }) => y.showticklabels !== false);
  if (!shared && !labelled) return 1;
  for (let count = most - 1; count > 1; count--) if (wide(count) >= least) return count;
  return 1;
}

const gapOf = (panels) => panels.find(({ col }) => col === 1).left - panels.find(({ col }) => col === 0).right;

// Pixels that the names along the vertical axes of all but the first panel of a row take.
function labelGap(panels) {
  const labels = panels.filter(({ col, y }) => col && y.showticklabels !== false).flatMap(({ y }) => y.ticktext ?? []);
  return Math.max(0, ...labels.flatMap(rows).map((line) => textWidth(line, 13) + 16));
}

// Panels in their new places: `count` side by side, each under its title; returns the height of all.
function place(layout, panels, count, inner, size) {
  const most = Math.max(...panels.map(({ col }) => col)) + 1, moved = count !== most;
  const { margin } = layout, whole = size.height - size.t - size.b, notes = layout.annotations ?? [];
  const gap = count > 1 ? Math.max(28, labelGap(panels), moved ? 60 : gapOf(panels) * inner) : 0;
  const wide = (inner - gap * (count - 1)) / count, found = panels.map((panel) => titlesOf(panel, notes));
  const lone = panels.every(({ row }) => row === 0), order = byColumn(panels, count);
  panels.forEach((panel, at) => {
    const { over, beside } = found[at], place = order.indexOf(panel);
    if (moved) Object.assign(panel, { newCol: place % count, newRow: Math.floor(place / count) });
    else Object.assign(panel, { newCol: panel.col, newRow: panel.row });
    const own = over && (moved || near(over.y, panel.top)), added = moved && beside ? `, ${beside.text}` : "";
    const font = over?.font?.size ?? PANEL_TITLE, across = wide + Math.min(gap, 60) - 12;
    const lines = own ? rows(over.text + added).flatMap((line) => broken(line, across, font)) : [];
    Object.assign(panel, { lines, note: own ? over : null, font, high: (panel.top - panel.bottom) * whole });
  });
  const last = Math.max(...panels.map(({ newRow }) => newRow)), heights = [], above = [];
  for (let row = 0; row <= last; row++) {
    const here = panels.filter(({ newRow }) => newRow === row);
    heights.push(Math.max(...here.map(({ high }) => high)));
    above.push(Math.max(0, ...here.map(({ lines, font }) => lines.length * font * LINE + (lines.length ? 8 : 0))));
  }
  const titled = panels.map(({ note, font }) => (note ? rows(note.text).length * font * LINE + 8 : 0));
  const oldTitle = Math.max(0, ...titled);
  if (moved) relabel(panels, count, order);
  const under = heights.map((_, row) => Math.max(...panels.filter((one) => one.newRow === row).map(axisRoom)));
  const tops = [0];
  for (let row = 1; row <= last; row++) tops.push(tops[row - 1] + heights[row - 1] + under[row - 1] + above[row]);
  const total = tops[last] + heights[last], used = new Set(), titles = [];
  panels.forEach((panel, at) => {
    const left = (panel.newCol * (wide + gap)) / inner, right = left + wide / inner;
    const top = 1 - tops[panel.newRow] / total, bottom = top - panel.high / total;
    Object.assign(panel.x, { domain: [Math.max(0, left), Math.min(1, right)] });
    Object.assign(panel.y, { domain: [Math.max(0, bottom), Math.min(1, top)] });
    const { over, beside } = found[at];
    if (panel.note) {
      used.add(over);
      titles.push({ ...over, x: (left + right) / 2, y: top, text: panel.lines.join("<br>"), yanchor: "bottom" });
    }
    if (beside) used.add(beside);
    if (beside && !moved && panel.col === most - 1) titles.push({ ...beside, y: (top + bottom) / 2 });
  });
  layout.annotations = [...notes.filter((note) => !used.has(note)), ...titles];
  margin.t += above[0] - (panels.some(({ row, note }) => note && row === 0) ? oldTitle : 0);
  if (moved && layout.coloraxis?.colorbar) {
    Object.assign(layout.coloraxis.colorbar, { lenmode: "pixels", len: Math.min(total, 260), y: 1, yanchor: "top" });
  }
  return total;
}

// Panels of which only the lowest of a column has numbers on its axis stay in that order in a single column.
function byColumn(panels, count) {
  if (count > 1 || panels.every(({ x }) => x.showticklabels !== false)) return panels;
  return [...panels].sort((a, b) => a.col - b.col || a.row - b.row);
}

// Pixels that the numbers and the title of an axis take below a panel.
function axisRoom({ x }) {
  if (x.showticklabels === false) return 12;
  const turned = Math.abs(Math.sin(((x.tickangle ?? 0) * Math.PI) / 180));
  const longest = Math.max(0, ...(x.ticktext ?? []).map((label) => textWidth(label, 13)));
  const lines = Math.max(1, ...(x.ticktext ?? []).map((label) => rows(label).length));
  return 14 + 14 * lines + (turned > 0.1 ? turned * longest : 0) + (x.title?.text ? 24 : 0);
}

// Axes show their numbers and titles again where the panel beside or below them that did is elsewhere now.
function relabel(panels, count, order) {
  const shared = sharesAxis(panels);
  const first = (panel) => panels.find(({ row }) => row === panel.row) ?? panel;
  const under = (panel) => panels.filter(({ col }) => col === panel.col).at(-1);
  const as = (axis, own) => ({ showticklabels: axis.showticklabels ?? true, title: own.title?.text ? own.title : axis.title });
  const changes = panels.map((panel) => ({
    y: count === 1 || panel.newCol === 0 || !shared ? as(first(panel).y, panel.y)
      : { showticklabels: false, title: { text: "" } },
    x: order === panels ? as(under(panel).x, panel.x) : {},
  }));
  panels.forEach((panel, at) => {
    Object.assign(panel.x, changes[at].x);
    Object.assign(panel.y, changes[at].y);
  });
}

// Pixels that the longest name along a vertical axis takes, where the drawing makes room for it by itself.
function labelsRoom(layout, data) {
  const rooms = Object.keys(layout).filter((key) => /^yaxis\d*$/.test(key) && layout[key].automargin).map((key) => {
    const traces = data.filter(({ yaxis = "y" }) => yaxis === key.replace("axis", ""));
    const own = traces.flatMap(({ y }) => (Array.isArray(y) ? y : []));
    const labels = layout[key].ticktext ?? own.filter((value) => typeof value === "string");
    return Math.max(0, ...labels.flatMap(rows).map((line) => textWidth(line, 13) + 24));
  });
  return Math.max(0, ...rooms);
}

// Names along an axis in lines that leave room for what is drawn; the factor by which the rows have to grow for them.
function shortLabels(layout, width, whole) {
  let factor = 1;
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    const axis = layout[name], labels = axis.ticktext;
    if (name[0] === "x" && axis.tickangle === 0 && width < NARROW) delete axis.tickangle;
    if (name[0] === "x" || !labels || !axis.automargin) continue;
    axis.ticktext = labels.map((label) => rows(label).flatMap((line) => broken(line, 0.34 * width, 13)).join("<br>"));
    const lines = (texts) => Math.max(...texts.map((label) => rows(label).length));
    if (lines(axis.ticktext) === lines(labels)) continue;
    const each = (whole * ((axis.domain ?? [0, 1])[1] - (axis.domain ?? [0, 1])[0])) / labels.length;
    factor = Math.max(factor, (lines(axis.ticktext) * 13 * LINE + 6) / each);
  }
  return factor;
}

// Titles of axes in lines that are no longer than the axis; returns the pixels that the lowest need below.
function axisTitles(layout, inner, high) {
  let below = 0;
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key) && layout[key].title?.text)) {
    const axis = layout[name], [from, to] = axis.domain ?? [0, 1], size = axis.title.font?.size ?? 16;
    const long = name[0] === "x" ? Math.max(120, (to - from) * inner) : Math.max(90, (to - from) * high + 12);
    const lines = broken(axis.title.text, long, size);
    if (lines.length === 1) continue;
    axis.title = { ...axis.title, text: lines.join("<br>") };
    if (name[0] === "x") below = Math.max(below, size * LINE * (lines.length - 1));
    else axis.automargin = true;
  }
  return below;
}

// The layout for a width in pixels.
function fitted(original, data, width) {
  const layout = structuredClone(original), { margin, title, legend, meta } = layout;
  Object.assign(layout, { width, autosize: false, uirevision: "kept" });
  if (!meta?.neolens) return layout;
  const { compact, below } = meta.neolens, size = { height: layout.height, t: margin.t, b: margin.b };
  const bar = layout.coloraxis?.colorbar || data.some(({ type, colorbar }) => type === "heatmap" && colorbar) ? 70 : 0;
  const whole = size.height - size.t - size.b, factor = shortLabels(layout, width, whole);
  const inner = width - Math.max(margin.l, labelsRoom(layout, data)) - margin.r - bar;
  const caption = title.subtitle?.text ?? "";
  const large = title.font?.size ?? TITLE, small = title.subtitle?.font?.size ?? CAPTION;
  const named = data.filter(({ name, showlegend }) => name && showlegend !== false);
  const many = named.length > 1 || layout.showlegend || named.some(({ showlegend }) => showlegend);
  let beside = 0;
  if (legend?.yanchor === "top" && many) {
    beside = named.reduce((sum, { name }) => sum + 56 + textWidth(name, 13), 0);
    if (![title.text, ...rows(caption)].every((line, at) => fits(line, inner - beside, at ? small : large))) {
      Object.assign(legend, { y: 0, yref: "container", yanchor: "bottom", x: 0, xanchor: "left" });
      margin.b += 29;
      beside = 0;
    }
  }
  if (width < NARROW) Object.assign(title, { xref: "container", x: 0, pad: { ...title.pad, l: 12 } });
  if (width < NARROW && legend?.yanchor === "bottom") Object.assign(legend, { xref: "container", x: 0.01 });
  const across = width - (title.xref === "container" ? 28 : margin.l + 24) - beside;
  if (!rows(title.text).every((line) => broken(line, across, large).length === 1)) {
    const lines = broken(title.text.replaceAll("<br>", " "), across, large);
    margin.t += large * LINE * (lines.length - rows(title.text).length);
    title.text = lines.join("<br>");
  }
  if (!fits(caption, across, small)) {
    const lines = broken(caption.replaceAll("<br>", " "), across, small);
    margin.t += small * LINE * (lines.length - rows(caption).length);
    title.subtitle.text = lines.join("<br>");
  }
  const panels = panelsOf(layout, data);
  let high = whole * factor;
  if (high > whole) size.height += high - whole;
  if (panels.length) {
    const count = columnsFor(panels, data, inner, width, compact), most = Math.max(...panels.map(({ col }) => col)) + 1;
    const tight = panels.some((panel) => {
      const { over } = titlesOf(panel, layout.annotations ?? []);
      return over && !fits(over.text, (panel.right - panel.left) * inner + 12, over.font?.size ?? PANEL_TITLE);
    });
    const crowded = most > 1 && labelGap(panels) > gapOf(panels) * inner;
    if (count !== most || tight || crowded) high = place(layout, panels, count, inner, size);
  }
  const deeper = axisTitles(layout, inner, high);
  Object.assign(meta.neolens, { deeper });
  margin.b += deeper;
  layout.height = compact && high <= whole && margin.t <= size.t ? size.height : margin.t + high + margin.b;
  return layout;
}

// Draws the figure in its element, and again when that becomes wider or narrower.
async function drawFigure(element, figure, config) {
  const draw = async (width) => {
    const layout = fitted(figure.layout, figure.data, width);
    if (layout.height) element.style.height = `${layout.height}px`;
    await Plotly.react(element, figure.data, layout, config);
    await roomForLegend(element, layout);
  };
  let drawn = Math.floor(element.clientWidth);
  await draw(drawn);
  new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    draw(width).catch(console.error);
  }).observe(element);
}

// The figure becomes as high as a legend below its axes needs, in however many rows its names go.
async function roomForLegend(element, layout) {
  const legend = element.querySelector(".legend .bg"), { meta, margin } = layout;
  if (!legend || layout.legend?.yanchor !== "bottom" || layout.legend.yref !== "container" || !meta?.neolens) return;
  const missing = legend.getBBox().height + meta.neolens.below + (meta.neolens.deeper ?? 0) - margin.b;
  if (meta.neolens.compact ? missing <= 2 : Math.abs(missing) <= 4) return;
  const height = layout.height + (meta.neolens.compact ? 0 : missing);
  element.style.height = `${height}px`;
  await Plotly.relayout(element, { "margin.b": margin.b + missing, height });
}

return drawFigure;
})();
