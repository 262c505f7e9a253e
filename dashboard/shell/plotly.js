/** Plotly's own bundle, served by us, loaded by the first page that draws a chart. */

import { addressOf } from "./router.js";

/** @type {Promise<any> | null} */
let loading = null;

/** @returns {Promise<any>} `Plotly` */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = addressOf("/static/plotly.min.js");
    script.onload = () => resolve(/** @type {any} */ (window).Plotly);
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error("The chart library did not load"));
    };
    document.head.append(script);
  });
  return loading;
}
