// What all pages to send share: their packed data, and that they say why where they cannot be drawn.
async function unpacked() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).json();
}

async function show(draw) {
  try {
    draw(await unpacked());
    document.body.classList.add("drawn");
  } catch (error) {
    byId("alarm").hidden = false;
    byId("alarm").textContent = `This page could not be drawn: ${error.message}. A browser of 2023 or later is needed.`;
    throw error;
  }
}
