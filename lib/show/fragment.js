(() => {
  "use strict";

  const canInflate = () => {
    try { return Boolean(new DecompressionStream("deflate-raw")); } catch { return false; }
  };

  const inflate = (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).json();
  };

  const frame = ({ lines, frames }, number) => {
    const runs = frames[number];
    const pieces = [];
    for (let i = 0; i < runs.length; i += 2) {
      pieces.push(...lines.slice(runs[i], runs[i] + runs[i + 1]));
    }
    return pieces.join("\n");
  };

  const wake = (figure) => {
    const picture = figure.querySelector(".explore-picture");
    const status = figure.querySelector(".explore-status span");
    const sliders = [...figure.querySelectorAll("input")];
    const outputs = [...figure.querySelectorAll("output")];
    let words, packed;

    const read = () => words ??= JSON.parse(figure.querySelector(".explore-words").textContent);
    const load = () => packed ??= inflate(figure.querySelector(".explore-frames").textContent);
    const current = () => sliders.reduce((number, { max, value }) => number * (+max + 1) + +value, 0);

    const say = () => {
      const { alt, values, texts } = read();
      sliders.forEach((slider, i) => {
        outputs[i].value = values[i][slider.value];
        slider.setAttribute("aria-valuetext", outputs[i].value);
      });
      status.textContent = texts[current()];
      picture.alt = `${alt} ${status.textContent}`;
    };

    const show = async () => {
      const all = await load();
      picture.src = `data:image/svg+xml,${encodeURIComponent(frame(all, current()))}`;
    };

    for (const slider of sliders) {
      slider.disabled = false;
      slider.addEventListener("input", () => { say(); show(); });
    }
    figure.querySelector(".explore-sliders").hidden = false;

    const near = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) { near.disconnect(); load(); }
    }, { rootMargin: "600px" });
    near.observe(figure);
  };

  if (!canInflate()) return;
  for (const figure of document.querySelectorAll("figure.explore:not([data-awake])")) {
    figure.dataset.awake = "";
    wake(figure);
  }
})();
