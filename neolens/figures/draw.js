// Unpacks each library of the page once, then draws. Without a network, and without a request to anywhere.
async function unpacked(name) {
  const packed = Uint8Array.from(atob(document.getElementById(name).textContent), (char) => char.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
}

async function run(library) {
  const script = document.createElement("script");
  script.textContent = await (await unpacked(library)).text();
  document.head.append(script);
  script.remove();
}

// Resolves when no section around the element is folded, for what is not shown has no width to draw in.
async function shown(element) {
  for (let folded; (folded = element.closest("details:not([open])")); ) {
    await new Promise((resolve) => folded.addEventListener("toggle", resolve, { once: true }));
  }
}

async function drawAll(drawings) {
  const libraries = new Map();
  const drawn = async ([library, name, draw]) => {
    const element = document.getElementById(name);
    try {
      if (!libraries.has(library)) libraries.set(library, run(library));
      await libraries.get(library);
      await draw(element);
    } catch (error) {
      element.textContent = `This figure could not be drawn; a browser from 2023 or later is needed. (${error})`;
      console.error(error);
    }
  };
  for (const drawing of drawings) {
    const element = document.getElementById(drawing[1]);
    if (element.closest("details:not([open])")) shown(element).then(() => drawn(drawing));
    else {
      await drawn(drawing);
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between two drawings
    }
  }
}
