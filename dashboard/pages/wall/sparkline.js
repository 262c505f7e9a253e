/**
 * The last minutes of a channel on a canvas: colour is the emotion, height and strength its
 * confidence, silence is left blank.
 */
import { paintOf, strengthOf } from "../../shell/palette.js";

export const SPAN_S = 180;
export const HEIGHT_PX = 24;
const BUCKET_S = 5;
const GAP_PX = 1;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./tiles.js").TileChannel} channel
 * @param {number} now_s of the stream
 * @param {number} width_px asked of the grid, not of the canvas: that would lay out the page anew
 *   for each of hundreds
 */
export function drawSparkline(canvas, channel, now_s, width_px) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const width = Math.round(width_px * ratio);
  const height = HEIGHT_PX * ratio;
  if (width === 0) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, width, height);
  const x = (at_s) => ((at_s - now_s + SPAN_S) / SPAN_S) * width;

  /** @param {number} from_s @param {number} to_s @param {string | null} label @param {number} confidence */
  const bar = (from_s, to_s, label, confidence) => {
    const left = Math.max(0, x(from_s));
    const right = Math.min(width, x(to_s));
    if (right <= left) return;
    const tall = Math.max(2 * ratio, Math.round(confidence * height));
    context.globalAlpha = strengthOf(confidence);
    context.fillStyle = paintOf(context, label);
    context.fillRect(left, height - tall, Math.max(1, right - left - GAP_PX * ratio), tall);
  };

  let known_s = -Infinity;
  for (const [start_s, label, confidence] of channel.trend) {
    bar(start_s, Math.min(start_s + BUCKET_S, now_s), label, confidence);
    known_s = start_s + BUCKET_S;
  }
  // The span that is still open is not in the trend; the current label stands for it.
  if (channel.speaking && now_s > known_s) {
    bar(Math.max(known_s, Math.floor(now_s / BUCKET_S) * BUCKET_S), now_s, channel.label, channel.confidence ?? 0);
  }
  context.globalAlpha = 1;
}
