// Markup of plotly as lines that fit a width, measured in the font of the figures. With fit.js one script.
const LINE = 1.32; // height of a line, of the size of its letters
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
