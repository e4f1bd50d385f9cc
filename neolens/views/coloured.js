// A text whose tokens have the colours of their values: one of several at choice, the value on hover or by arrow keys.
(() => {
  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const parts = (colour) => colour.match(/\d+/g).map(Number);

  // The colour at a share of the scale, between two of its stops.
  function between(stops, share) {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), left = Math.min(Math.floor(at), stops.length - 2);
    const [from, to] = [parts(stops[left]), parts(stops[left + 1])];
    return from.map((part, i) => Math.round(part + (to[i] - part) * (at - left)));
  }

  const written = (value, unit) => (value === null ? "not defined" : `${value}${unit && ` ${unit}`}`);

  function colour(state) {
    const { low, high, values, worse } = state.choice, signed = worse ? [...state.signed].reverse() : state.signed;
    const below = signed.slice(0, Math.ceil(signed.length / 2)); // from the colour below 0 to that of 0
    const stops = low >= 0 ? (worse ? state.worse : state.unsigned) : high > 0 ? signed : below;
    state.spans.forEach((span, at) => {
      const nothing = values[at] === null;
      span.classList.toggle("neolens-nothing", nothing);
      const [r, g, b] = nothing ? [255, 255, 255] : between(stops, (values[at] - low) / (high - low));
      span.style.background = nothing ? "none" : `rgb(${r},${g},${b})`;
      span.style.color = 0.299 * r + 0.587 * g + 0.114 * b < 130 ? "#fff" : "#1f2933";
    });
    const [from, bar, to, swatch, nothing] = state.bar.children, missing = values.includes(null);
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    from.textContent = String(Number(low.toPrecision(3)));
    to.textContent = written(Number(high.toPrecision(3)), state.choice.unit);
    swatch.hidden = nothing.hidden = !missing;
  }

  // Which token is told of: its value, and those of the other choices where they are few.
  function tell(state, at) {
    state.spans[state.at]?.classList.remove("neolens-here");
    state.at = at;
    if (at === null) {
      state.output.textContent = "";
      return;
    }
    const span = state.spans[at], value = (choice) => written(choice.values[at], choice.unit);
    span.classList.add("neolens-here");
    const few = state.choices.length > 1 && state.choices.length <= 8 ? state.choices : [state.choice];
    const lines = few.map((choice) => (choice.name ? `${choice.name}: ${value(choice)}` : value(choice)));
    state.output.textContent = [`${state.positions[at]} “${state.tokens[at]}”`, ...lines].join("\n");
    const box = span.getClientRects()[0], frame = state.frame.getBoundingClientRect();
    const left = Math.min(box.left - frame.left, frame.width - state.output.offsetWidth);
    state.output.style.left = `${Math.max(0, left)}px`;
    state.output.style.top = `${box.bottom - frame.top + 5}px`;
  }

  // The tokens as text that the pointer and the arrow keys go along.
  function readable(state) {
    const text = element("div", { className: "neolens-text", tabIndex: 0, role: "group" });
    text.setAttribute("aria-label", "tokens; arrow keys read their values one by one");
    state.spans = state.tokens.map((token, at) => {
      const span = element("span", { textContent: token, onpointerenter: () => tell(state, at) });
      text.append(span, ...(token.includes("⏎") ? [element("br")] : []));
      return span;
    });
    const moves = { ArrowRight: 1, ArrowLeft: -1 };
    text.onkeydown = (event) => {
      if (event.key === "Escape") tell(state, null);
      if (!moves[event.key]) return;
      event.preventDefault();
      const next = state.at === null ? 0 : state.at + moves[event.key];
      tell(state, Math.min(Math.max(next, 0), state.spans.length - 1));
      state.spans[state.at].scrollIntoView({ block: "nearest" });
    };
    text.onpointerleave = text.onblur = () => tell(state, null);
    return text;
  }

  function chooser(state) {
    const select = element("select", { ariaLabel: "what the tokens are coloured by" });
    state.choices.forEach(({ name }, at) => select.append(element("option", { textContent: name, value: at })));
    select.onchange = () => {
      state.choice = state.choices[Number(select.value)];
      colour(state);
    };
    return element("label", { hidden: state.choices.length === 1 }, "coloured by ", select);
  }

  window.neolensColoured = (target, data) => {
    const state = { ...data, choice: data.choices[0], at: null };
    const swatch = element("i", { className: "neolens-swatch neolens-nothing" });
    state.bar = element("span", { className: "neolens-bar" }, element("span"), element("i"), element("span"), swatch,
      element("span", { textContent: "not defined" }));
    state.output = element("output");
    const row = element("div", { className: "neolens-row" }, chooser(state), state.bar);
    state.frame = element("div", { className: "neolens-coloured" }, row, readable(state), state.output);
    target.replaceChildren(state.frame);
    colour(state);
  };
})();
