// What a page does besides drawing: offers what a figure draws as a file, unpacked when it is asked for.
for (const button of document.querySelectorAll("button.data")) {
  button.addEventListener("click", async () => {
    const text = await (await unpacked(button.dataset.of)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

// A table that is wider than the page gets smaller letters, then lines inside its cells, then its rows as blocks.
const STEPS = ["tight", "wrapped", "rows"];
const tables = new ResizeObserver((entries) => entries.forEach(({ target }) => narrow(target)));

const heightOf = (row) => row.getBoundingClientRect().height;

function narrow(box) {
  const width = box.clientWidth;
  if (!width || box.dataset.width === String(width)) return;
  box.dataset.width = width;
  box.classList.remove(...STEPS);
  for (const step of STEPS) {
    const tall = step === "rows" && width < 720 && Math.max(...[...box.querySelectorAll("tr")].map(heightOf)) > 160;
    if (box.scrollWidth <= width + 1 && !tall) return;
    if (step === "rows") labelled(box);
    box.classList.add(step);
  }
}

function labelled(box) {
  const names = [...box.querySelectorAll("thead th")].map((cell) => cell.textContent);
  for (const row of box.querySelectorAll("tbody tr")) {
    [...row.children].forEach((cell, at) => { if (at) cell.dataset.label = names[at]; });
  }
}

for (const box of document.querySelectorAll("div.table")) {
  narrow(box);
  tables.observe(box);
}
