/**
 * Elements made by hand: what is drawn on a canvas or many times a second is not described and
 * compared, but changed where it stands. Everything else is described with preact.js. Text is always
 * set as text, never as HTML.
 */
import { isValidElement, render } from "./preact.js";

/**
 * @param {string} tag
 * @param {Record<string, any>} [props] attributes; `on…` listeners; `class`, `style`, `dataset`;
 *   `null`, `undefined` and `false` leave an attribute out
 * @param {...any} children elements, descriptions of preact.js, texts, lists of them; `null`,
 *   `undefined` and `false` are left out
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) setProperty(element, name, value);
  append(element, children);
  return element;
}

function setProperty(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : String(value));
}

function append(element, children) {
  for (const child of children.flat()) {
    if (isValidElement(child)) element.append(made(child));
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Make what is described, once. @returns {DocumentFragment} */
function made(description) {
  const fragment = document.createDocumentFragment();
  render(description, fragment);
  return fragment;
}

/** Replace what an element holds. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Set text only where it differs: an unchanged text node costs no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Draw at most once an animation frame, and, unless it is urgent, once an interval.
 * @param {() => void} draw @param {number} [interval_ms]
 * @returns {{request: (urgent?: boolean) => void, cancel: () => void}}
 */
export function onFrame(draw, interval_ms = 0) {
  let handle = 0;
  let timer = 0;
  let drawn_at = -Infinity;
  const frame = () => {
    timer = 0;
    handle ||= requestAnimationFrame(() => {
      handle = 0;
      drawn_at = performance.now();
      draw();
    });
  };
  const cancel = () => {
    cancelAnimationFrame(handle);
    clearTimeout(timer);
    handle = timer = 0;
  };
  return {
    request(urgent = false) {
      const wait_ms = drawn_at + interval_ms - performance.now();
      if (urgent) clearTimeout(timer);
      if (urgent || wait_ms <= 0) frame();
      else timer ||= setTimeout(frame, wait_ms);
    },
    cancel,
  };
}

/**
 * Call again and again while the page is visible; at once when it becomes so.
 * @param {() => void} call @param {number} interval_ms
 * @returns {() => void} ends it
 */
export function whileVisible(call, interval_ms) {
  let timer = 0;
  const update = () => {
    clearInterval(timer);
    if (document.hidden) return;
    call();
    timer = setInterval(call, interval_ms);
  };
  document.addEventListener("visibilitychange", update);
  update();
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", update);
  };
}

/** Place an open popover below what opened it, within the window. @param {HTMLElement} menu @param {HTMLElement} opener */
export function placeBelow(menu, opener) {
  const box = opener.getBoundingClientRect();
  menu.style.top = `${box.bottom + 4}px`;
  menu.style.left = `${Math.max(8, Math.min(box.left, innerWidth - menu.offsetWidth - 12))}px`;
}

/**
 * Let a menu be walked through: the first item has the focus when it opens, arrows move, Escape
 * closes it (the popover does) and leads back to what opened it.
 * @param {HTMLElement} menu a popover
 */
export function menuKeys(menu) {
  const items = () => /** @type {HTMLElement[]} */ ([...menu.querySelectorAll("[role=menuitem]")]);
  menu.addEventListener("toggle", (event) => /** @type {any} */ (event).newState === "open" && items()[0]?.focus());
  menu.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(/** @type {any} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[(to + all.length) % all.length].focus();
  });
}

/** Resolve a custom property to a colour that canvases and charts understand. */
export function colour(name) {
  const probe = h("i", { style: { color: `var(${name})`, display: "none" } });
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
