// Offers what a figure draws as a file, unpacked when it is asked for.
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
