"use strict";

// The filters: what carries data-model, data-quality, data-objective or data-eps is shown if it agrees with the choice.
const filters = document.querySelector(".filters");
const AMPLIFIED = 8;

function applyFilters() {
  const wanted = ["model", "quality", "objective", "eps"].map((key) => [key, filters.elements[key].value]);
  for (const part of document.querySelectorAll("#attacked [data-model]")) {
    part.hidden = wanted.some(([key, value]) => value && key in part.dataset && part.dataset[key] !== value);
  }
  const damage = document.getElementById("damage");
  damage.dataset.metric = filters.elements.metric.value;
  const nothing = !damage.querySelector("tbody:not([hidden])");
  damage.querySelector(".nothing").hidden = !nothing;
  damage.querySelector(".scroll").hidden = nothing;
}

function startFilters() {
  const choose = (name, place) => {
    const options = filters.elements[name].options;
    filters.elements[name].selectedIndex = place(options.length - 1);
  };
  choose("model", () => 1);
  choose("quality", (count) => count);
  choose("eps", (count) => Math.ceil(count / 2));
  filters.hidden = false;
  filters.addEventListener("change", applyFilters);
  filters.addEventListener("submit", (event) => event.preventDefault());
  applyFilters();
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

// The comparison of an example: two of its pictures under a movable edge, and the difference of the two.
function startCompare(example) {
  const pictures = [...example.querySelectorAll(".gallery img")];
  if (pictures.length < 2) return;
  const box = example.querySelector(".compare");
  const over = make("img", "over"), under = make("img", "under");
  const stage = make("div", "stage", under, over, make("span", "edge"));
  const range = make("input", "");
  Object.assign(range, { type: "range", min: 0, max: 100, step: 1, value: 50, autocomplete: "off" });
  const facts = make("p", "under-picture", make("span", ""), make("span", ""));
  const canvas = make("canvas", ""), caption = make("figcaption", "");
  const sides = ["Left", "Right"].map((side, i) => {
    const select = make("select", side.toLowerCase(), ...pictures.map((p, n) => new Option(p.dataset.name, n)));
    select.autocomplete = "off";
    select.selectedIndex = Math.min(2 + i, pictures.length - 1);
    select.addEventListener("change", show);
    return select;
  });
  if (sides[0].selectedIndex === sides[1].selectedIndex) sides[0].selectedIndex -= 1;
  canvas.setAttribute("role", "img");

  const chosen = () => sides.map((select) => pictures[select.selectedIndex]);

  function moveEdge() {
    stage.style.setProperty("--edge", range.value + "%");
    range.setAttribute("aria-valuetext", `${range.value} % of the width shows the left picture`);
  }

  async function show() {
    const [left, right] = chosen();
    [[over, left], [under, right]].forEach(([image, picture], i) => {
      image.src = picture.src;
      image.alt = picture.dataset.name;
      const figures = picture.parentElement.querySelector("figcaption span");
      const name = make("b", "", picture.dataset.name);
      facts.children[i].replaceChildren(name, figures ? figures.textContent : "");
    });
    await Promise.all([left.decode(), right.decode()]);
    if (chosen()[0] !== left || chosen()[1] !== right) return;
    const largest = drawDifference(canvas, left, right);
    canvas.setAttribute("aria-label", `Difference of ${left.dataset.name} and ${right.dataset.name}`);
    caption.textContent = `Difference of the two, ×${AMPLIFIED}; the largest is ${largest} of 255 levels.`;
    for (const image of [over, under, canvas]) {
      image.classList.toggle("pixels", stage.clientWidth > right.naturalWidth);
    }
  }

  const drag = (event) => {
    const bounds = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - bounds.left)) / bounds.width;
    moveEdge();
  };
  stage.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && drag(event));
  range.addEventListener("input", moveEdge);

  const choices = make("div", "choices", make("label", "", "Left", sides[0]), make("label", "", "Right", sides[1]));
  const slide = make("label", "slide", "Edge between the two pictures", range);
  const difference = make("figure", "difference", canvas, caption);
  box.append(choices, make("div", "pair", make("div", "", stage, slide, facts), difference));
  box.hidden = false;
  example.querySelector("details").open = false;
  moveEdge();
  show();
}

// Draws |left - right|, amplified, a channel at a time, and returns the largest difference in levels.
function drawDifference(canvas, left, right) {
  const width = right.naturalWidth, height = right.naturalHeight;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [a, b] = [left, right].map((image) => {
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  });
  let largest = 0;
  for (let i = 0; i < a.data.length; i++) {
    const difference = Math.abs(a.data[i] - b.data[i]);
    largest = Math.max(largest, difference);
    a.data[i] = i % 4 === 3 ? 255 : AMPLIFIED * difference;
  }
  context.putImageData(a, 0, 0);
  return largest;
}

if (filters) startFilters();
document.querySelectorAll(".example").forEach(startCompare);
