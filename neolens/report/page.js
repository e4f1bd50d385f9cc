// Unpacks each library of the page once, then draws. Without a network, and without a request to anywhere.
async function unpack(library) {
  const packed = Uint8Array.from(atob(document.getElementById(library).textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  script.remove();
}

async function drawAll(drawings) {
  const libraries = new Map();
  for (const [library, name, draw] of drawings) {
    const element = document.getElementById(name);
    try {
      if (!libraries.has(library)) libraries.set(library, unpack(library));
      await libraries.get(library);
      await draw(element);
    } catch (error) {
      element.textContent = `This figure could not be drawn; a browser from 2023 or later is needed. (${error})`;
      console.error(error);
    }
  }
}
