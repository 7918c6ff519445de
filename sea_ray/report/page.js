"use strict";
// Hover, and what is shown of languages and trials. The page says everything without it.
{
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  for (const one of all(".scripted")) one.hidden = false;

  // A mark's title, at once and under a finger too, instead of the browser's own after a second.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);

  function told(node) {
    for (; node && node.ownerSVGElement; node = node.parentNode) {
      const title = node.querySelector(":scope > title");
      if (title) {
        node.dataset.tip = title.textContent;
        node.setAttribute("aria-label", title.textContent);
        title.remove();
      }
      if (node.dataset.tip) return node.dataset.tip;
    }
    return "";
  }

  // A loss is read off its line, at the step nearest to the pointer.
  function loss(svg, event) {
    const box = svg.getBoundingClientRect(), zoom = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * zoom;
    const points = all(".curve:not(.held)", svg).at(-1)?.getAttribute("d").slice(1).split(" ").map((pair) => pair.split(",").map(Number));
    if (!points) return "";
    const near = points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
    const scales = svg.dataset.scales.split(" ").map(Number);
    const value = ([low, high, start, end], at) => low + (high - low) * (at - start) / (end - start);
    return `step ${Math.round(value(scales.slice(0, 4), near[0]))}: ${value(scales.slice(4), near[1]).toFixed(3)}`;
  }

  function show(event) {
    const losses = event.target.closest?.("svg.losses");
    tip.textContent = losses ? loss(losses, event) : told(event.target);
    tip.hidden = !tip.textContent;
    if (tip.hidden) return;
    const {width, height} = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - width - 6))}px`;
    tip.style.top = `${event.clientY + 18 + height < innerHeight ? event.clientY + 18 : event.clientY - height - 12}px`;
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("pointerleave", () => { tip.hidden = true; });
  document.addEventListener("scroll", () => { tip.hidden = true; }, {passive: true});

  // What belongs to one trial lights up together: its mark, its line, its row.
  let lit = "";
  document.addEventListener("pointerover", (event) => {
    const key = event.target.closest?.("[data-trial]")?.dataset.trial ?? "";
    if (key === lit) return;
    lit = key;
    for (const one of all("[data-trial]")) one.classList.toggle("lit", one.dataset.trial === key);
  });

  // One language alone: rows of others are left out of tables and fade in pictures.
  const choice = document.querySelector(".filter select");
  choice?.addEventListener("change", () => {
    for (const one of all("[data-language]")) one.classList.toggle("away", !!choice.value && one.dataset.language !== choice.value);
  });

  // Ranges on the axes of parallel coordinates; a trial outside one of them fades wherever it is shown.
  for (const svg of all("svg.parallel")) {
    const section = svg.closest(".sweep"), said = svg.closest("figure").querySelector("output");
    const lines = all(".trial", svg), ranges = new Map();
    const height = (event) => {
      const box = svg.getBoundingClientRect();
      return (event.clientY - box.top) * svg.viewBox.baseVal.height / box.height;
    };
    const apply = () => {
      const out = new Set(lines.filter((line) => [...ranges].some(([axis, {low, high}]) => {
        const {y} = line.points[axis];
        return y < low || y > high;
      })).map((line) => line.dataset.trial));
      for (const one of all("[data-trial]", section)) one.classList.toggle("out", out.has(one.dataset.trial));
      said.textContent = ranges.size ? `${lines.length - out.size} of ${lines.length} trials.` : "";
    };
    for (const axis of all(".brush", svg)) {
      const number = Number(axis.dataset.axis);
      let from = null;
      axis.addEventListener("pointerdown", (event) => {
        axis.setPointerCapture(event.pointerId);
        from = height(event);
        ranges.get(number)?.mark.remove();
        ranges.delete(number);
        apply();
      });
      axis.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const low = Math.min(from, height(event)), high = Math.max(from, height(event));
        if (high - low < 3) return;
        const mark = ranges.get(number)?.mark ?? axis.parentNode.insertBefore(axis.cloneNode(), axis);
        mark.setAttribute("class", "range");
        mark.setAttribute("y", low);
        mark.setAttribute("height", high - low);
        ranges.set(number, {low, high, mark});
        apply();
      });
      axis.addEventListener("pointerup", () => { from = null; });
      axis.addEventListener("pointercancel", () => { from = null; });
    }
  }
}
