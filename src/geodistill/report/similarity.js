"use strict";
(() => {
  const frames = [...document.querySelectorAll(".alike")];
  if (!frames.length) return;
  const data = JSON.parse(document.getElementById("alike-data").textContent);
  const models = Object.fromEntries(data.models.map((model) => [
    model.name, { ...model, values: Uint8Array.from(atob(model.values), (character) => character.charCodeAt(0)) },
  ]));
  let place = [0.5, 0.5]; // down and across, as shares of the image
  const draw = () => frames.forEach((frame) => {
    const model = models[frame.dataset.model], [rows, columns] = model.grid;
    const row = Math.min(Math.floor(place[0] * rows), rows - 1), column = Math.min(Math.floor(place[1] * columns), columns - 1);
    const canvas = frame.querySelector("canvas"), pen = canvas.getContext("2d");
    canvas.width = columns;
    canvas.height = rows;
    const picture = pen.createImageData(columns, rows), count = rows * columns, start = (row * columns + column) * count;
    for (let k = 0; k < count; k++) {
      const value = model.values[start + k];
      picture.data.set([...data.colours[value], 255], 4 * k);
    }
    pen.putImageData(picture, 0, 0);
    const pin = frame.querySelector(".pin");
    pin.style.top = `${(100 * (row + 0.5)) / rows}%`;
    pin.style.left = `${(100 * (column + 0.5)) / columns}%`;
    const mean = model.values.subarray(start, start + count).reduce((sum, value) => sum + value, 0) / count / 255;
    frame.parentElement.querySelector("figcaption .quiet").textContent =
      `place ${row + 1}, ${column + 1} of ${rows} x ${columns}; mean similarity ${mean.toFixed(2)}`;
  });
  const choose = (down, across) => {
    place = [down, across].map((share) => Math.min(Math.max(share, 0), 0.9999));
    draw();
  };
  frames.forEach((frame) => {
    const point = (event) => {
      const box = frame.getBoundingClientRect();
      choose((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
    };
    frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); point(event); });
    frame.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
    frame.addEventListener("keydown", (event) => {
      const [rows, columns] = models[frame.dataset.model].grid;
      const steps = { ArrowUp: [-1 / rows, 0], ArrowDown: [1 / rows, 0], ArrowLeft: [0, -1 / columns], ArrowRight: [0, 1 / columns] };
      if (!steps[event.key]) return;
      event.preventDefault();
      choose(place[0] + steps[event.key][0], place[1] + steps[event.key][1]);
    });
  });
  draw();
})();
