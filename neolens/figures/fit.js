// Lays a figure out for the width that there is. Where its panels would be too narrow side by side, they are drawn one
// below the other, each under its own title; titles and captions are broken into lines, a legend that does not fit
// beside the title is drawn below, and the figure is as high as all that needs.
const NARROW = 720, PANEL = 280, MAP = 130, COMPACT = 110; // pixels: of a page, and of a panel side by side with others
const TITLE = 18, CAPTION = 13, PANEL_TITLE = 16; // sizes of fonts where none is given

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
  const moved = count !== Math.max(...panels.map(({ col }) => col)) + 1, order = byColumn(panels, count);
  const gap = count > 1 ? Math.max(28, labelGap(panels), moved ? 60 : gapOf(panels) * inner) : 0;
  const grid = { moved, order, count, gap, inner, wide: (inner - gap * (count - 1)) / count };
  const was = titled(layout, panels, grid, size.height - size.t - size.b);
  if (moved) relabel(panels, count, order);
  const rowsOf = [...new Set(panels.map(({ newRow }) => newRow))].sort((a, b) => a - b);
  const most = (row, value) => Math.max(0, ...panels.filter(({ newRow }) => newRow === row).map(value));
  const above = rowsOf.map((row) => most(row, (panel) => titleRoom(panel, panel.lines.length)));
  const heights = rowsOf.map((row) => most(row, ({ high }) => high)), under = rowsOf.map((row) => most(row, axisRoom));
  const tops = [0];
  for (const row of rowsOf.slice(1)) tops.push(tops[row - 1] + heights[row - 1] + under[row - 1] + above[row]);
  const total = tops.at(-1) + heights.at(-1);
  for (const panel of panels) settle(panel, grid, tops[panel.newRow], total);
  renote(layout, panels, grid);
  layout.margin.t += above[0] - was;
  if (moved && layout.coloraxis?.colorbar) {
    Object.assign(layout.coloraxis.colorbar, { lenmode: "pixels", len: Math.min(total, 260), y: 1, yanchor: "top" });
  }
  return total;
}

const titleRoom = ({ font }, lines) => (lines ? lines * font * LINE + 8 : 0);

// Gives each panel its new row and column and its title in lines; returns the room of the titles on top until now.
function titled(layout, panels, { moved, order, count, gap, wide }, whole) {
  let was = 0;
  for (const panel of panels) {
    const { over, beside } = titlesOf(panel, layout.annotations ?? []), at = order.indexOf(panel);
    const [newCol, newRow] = moved ? [at % count, Math.floor(at / count)] : [panel.col, panel.row];
    const own = over && (moved || near(over.y, panel.top)), added = moved && beside ? `, ${beside.text}` : "";
    const font = over?.font?.size ?? PANEL_TITLE, across = wide + Math.min(gap, 60) - 12;
    const lines = own ? rows(over.text + added).flatMap((line) => broken(line, across, font)) : [];
    Object.assign(panel, { newCol, newRow, over, beside, own, font, lines, high: (panel.top - panel.bottom) * whole });
    if (own && panel.row === 0) was = Math.max(was, titleRoom(panel, rows(over.text).length));
  }
  return was;
}

function settle(panel, { wide, gap, inner }, above, total) {
  const left = (panel.newCol * (wide + gap)) / inner, top = 1 - above / total, bottom = top - panel.high / total;
  Object.assign(panel, { newLeft: left, newRight: left + wide / inner, newTop: top, newBottom: bottom });
  panel.x.domain = [Math.max(0, left), Math.min(1, panel.newRight)];
  panel.y.domain = [Math.max(0, panel.newBottom), Math.min(1, top)];
}

// The titles of panels and rows where these are now.
function renote(layout, panels, { moved }) {
  const used = new Set(), titles = [], last = Math.max(...panels.map(({ col }) => col));
  for (const { over, beside, own, lines, col, newLeft, newRight, newTop, newBottom } of panels) {
    if (own) {
      used.add(over);
      titles.push({ ...over, x: (newLeft + newRight) / 2, y: newTop, text: lines.join("<br>"), yanchor: "bottom" });
    }
    if (beside) used.add(beside);
    if (beside && !moved && col === last) titles.push({ ...beside, y: (newTop + newBottom) / 2 });
  }
  layout.annotations = [...(layout.annotations ?? []).filter((note) => !used.has(note)), ...titles];
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
  const title = (axis, own) => (own.title?.text ? own.title : axis.title);
  const as = (axis, own) => ({ showticklabels: axis.showticklabels ?? true, title: title(axis, own) });
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

// A legend beside the title goes below the axes where title and caption would run into it; pixels that it takes beside.
function legendBeside({ title, legend, margin, showlegend }, data, inner) {
  const named = data.filter((trace) => trace.name && trace.showlegend !== false);
  const shown = named.length > 1 || showlegend || named.some((trace) => trace.showlegend);
  if (legend?.yanchor !== "top" || !shown) return 0;
  const wide = named.reduce((sum, { name }) => sum + 56 + textWidth(name, CAPTION), 0);
  const [large, small] = sizes(title), caption = rows(title.subtitle?.text);
  if (fits(title.text, inner - wide, large) && caption.every((line) => fits(line, inner - wide, small))) return wide;
  Object.assign(legend, { y: 0, yref: "container", yanchor: "bottom", x: 0, xanchor: "left" });
  margin.b += 29;
  return 0;
}

const sizes = (title) => [title.font?.size ?? TITLE, title.subtitle?.font?.size ?? CAPTION];

// Title and caption in lines of a width; the margin above grows with them.
function breakTitle({ title, margin }, width) {
  const [large, small] = sizes(title);
  for (const [text, size] of [[title, large], [title.subtitle ?? {}, small]]) {
    if (!text.text || fits(text.text, width, size)) continue;
    const lines = broken(text.text.replaceAll("<br>", " "), width, size);
    margin.t += size * LINE * (lines.length - rows(text.text).length);
    text.text = lines.join("<br>");
  }
}

// The panels of a layout where they have room; returns the height of all in pixels.
function arrange(layout, data, inner, size, high) {
  const panels = panelsOf(layout, data);
  if (!panels.length) return high;
  const count = columnsFor(panels, data, inner, layout.width, layout.meta.neolens.compact);
  const most = Math.max(...panels.map(({ col }) => col)) + 1;
  const tight = panels.some((panel) => {
    const { over } = titlesOf(panel, layout.annotations ?? []);
    return over && !fits(over.text, (panel.right - panel.left) * inner + 12, over.font?.size ?? PANEL_TITLE);
  });
  const crowded = most > 1 && labelGap(panels) > gapOf(panels) * inner;
  return count !== most || tight || crowded ? place(layout, panels, count, inner, size) : high;
}

// The layout for a width in pixels.
function fitted(original, data, width) {
  const layout = structuredClone(original), { margin, title, legend, meta } = layout;
  Object.assign(layout, { width, autosize: false, uirevision: "kept" });
  if (!meta?.neolens) return layout;
  const size = { height: layout.height, t: margin.t, b: margin.b }, whole = size.height - size.t - size.b;
  const bar = layout.coloraxis?.colorbar || data.some(({ type, colorbar }) => type === "heatmap" && colorbar) ? 70 : 0;
  const factor = shortLabels(layout, width, whole);
  const inner = width - Math.max(margin.l, labelsRoom(layout, data)) - margin.r - bar;
  const beside = legendBeside(layout, data, inner);
  if (width < NARROW) Object.assign(title, { xref: "container", x: 0, pad: { ...title.pad, l: 12 } });
  if (width < NARROW && legend?.yanchor === "bottom") Object.assign(legend, { xref: "container", x: 0.01 });
  breakTitle(layout, width - (title.xref === "container" ? 28 : margin.l + 24) - beside);
  size.height += whole * (factor - 1);
  const high = arrange(layout, data, inner, size, whole * factor), deeper = axisTitles(layout, inner, high);
  Object.assign(meta.neolens, { deeper });
  margin.b += deeper;
  const same = meta.neolens.compact && high <= whole && margin.t <= size.t;
  layout.height = same ? size.height : margin.t + high + margin.b;
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
