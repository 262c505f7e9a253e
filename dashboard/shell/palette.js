/**
 * Emotions by colour and word, everywhere the same. Okabe-Ito, safe for colour-blind people; the
 * colour never stands without the word. Confidence is shown by strength, silence by absence.
 */
import { h } from "./preact.js";

/** @type {Readonly<Record<string, string>>} */
export const COLOURS = Object.freeze({
  angry: "#D55E00",
  disgusted: "#009E73",
  fearful: "#CC79A7",
  happy: "#E69F00",
  neutral: "#8A8F98",
  other: "#7A5C3E",
  sad: "#0072B2",
  surprised: "#56B4E9",
  unknown: "#C9CDD3",
});

/**
 * What a result without a label is called. It is no emotion: its grey is always hatched, so that it
 * is neither taken for `unknown`, a class of some models, nor for silence, which is empty.
 */
export const UNCLEAR = "unclear";

const UNCLEAR_COLOUR = "#9AA0A8";

/** Ink that reaches a contrast of 4.5 on each colour. */
const INKS = Object.freeze({ other: "#FFFFFF", sad: "#FFFFFF" });

/** Of each emotion what it looks like in stacked charts, from the bottom: strong ones first. */
export const STACK_ORDER = Object.freeze([
  "angry",
  "fearful",
  "disgusted",
  "sad",
  "surprised",
  "happy",
  "other",
  "neutral",
  "unknown",
]);

/** @param {string | null} name of an emotion; null: unclear @returns {string} `#RRGGBB` */
export function colourOf(name) {
  if (name === null || name === UNCLEAR) return UNCLEAR_COLOUR;
  return COLOURS[name] ?? COLOURS.unknown;
}

/** @param {string} name @returns {string} of text on the emotion's colour */
export function inkOf(name) {
  return INKS[name] ?? "#111318";
}

/** @param {string | null} name @returns {string} a class that hatches what has no label */
export function hatchOf(name) {
  return name === null || name === UNCLEAR ? "hatched" : "";
}

const HATCH_PX = 6;

/**
 * What a canvas is filled with: the emotion's colour, or the hatch of what has no label.
 * @param {CanvasRenderingContext2D} context @param {string | null} name
 * @returns {string | CanvasPattern}
 */
export function paintOf(context, name) {
  if (!hatchOf(name)) return colourOf(name);
  const tile = new OffscreenCanvas(HATCH_PX, HATCH_PX);
  const drawing = /** @type {OffscreenCanvasRenderingContext2D} */ (tile.getContext("2d"));
  drawing.strokeStyle = UNCLEAR_COLOUR;
  drawing.lineWidth = 2;
  drawing.beginPath();
  // Beyond the corners, or the lines would be thinner where tiles meet.
  for (const shift of [-HATCH_PX, 0, HATCH_PX]) {
    drawing.moveTo(shift - 1, HATCH_PX + 1);
    drawing.lineTo(shift + HATCH_PX + 1, -1);
  }
  drawing.stroke();
  return /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
}

/** @param {string} name @param {number} strength 0 to 1 @returns {string} `rgb(… / …)` */
export function tint(name, strength) {
  const value = Number.parseInt(colourOf(name).slice(1), 16);
  return `rgb(${value >> 16} ${(value >> 8) & 255} ${value & 255} / ${strength.toFixed(2)})`;
}

/** @param {number} confidence 0 to 1 @returns {number} opacity that still shows the colour */
export function strengthOf(confidence) {
  return 0.3 + 0.7 * Math.min(1, Math.max(0, confidence));
}

/**
 * A swatch and the word.
 * @param {import("./types.js").App} app @param {string | null} name @param {string} [after] e.g. "82 %"
 */
export function emotion(app, name, after = "") {
  return h(
    "span",
    { class: "emotion" },
    h("i", { class: `swatch ${hatchOf(name)}`, style: { "--emotion": colourOf(name) }, "aria-hidden": "true" }),
    h("span", {}, app.label(name)),
    after && h("span", { class: "muted number" }, after),
  );
}
