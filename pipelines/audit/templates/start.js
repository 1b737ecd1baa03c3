// Start everything; draw again when the colours or the paper change.
function redraw() { drawWaterfall(); drawExplorer(); }

fillPictures();
startSearch();
startExplorer();
drawWaterfall();
for (const button of document.querySelectorAll("[data-unit]")) {
  button.addEventListener("click", () => {
    unit = button.dataset.unit;
    for (const other of document.querySelectorAll("[data-unit]")) other.setAttribute("aria-pressed", String(other === button));
    drawWaterfall();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
matchMedia("print").addEventListener("change", redraw);
addEventListener("beforeprint", redraw);
addEventListener("afterprint", redraw);
document.documentElement.dataset.ready = "yes";
