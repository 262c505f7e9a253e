/** What can be taken along of a stream. The table of points comes from the server. */

import { streamName } from "../../shell/names.js";

const FREE_AFTER_MS = 60_000;

/** @param {import("../../shell/types.js").App} app @param {import("./chart.js").Chart} chart @param {any} stream */
export async function saveImage(app, chart, stream) {
  const title = [streamName(app, stream.name, stream.stream_id), app.format.fullTime(stream.opened_at), stream.model.name].join(" · ");
  save(await chart.image(title), `${stream.stream_id}.png`);
}

/**
 * Everything that is kept of it, or, where nothing is kept, what this page has seen.
 * @param {import("../../shell/types.js").App} app @param {any} stream @param {import("./timeline.js").Timeline} timeline
 */
export async function saveJson(app, stream, timeline) {
  const results = app.info.store ? await allResults(app, stream.stream_id) : seen(timeline);
  const text = JSON.stringify({ stream, results }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  save(url, `${stream.stream_id}.json`);
  setTimeout(() => URL.revokeObjectURL(url), FREE_AFTER_MS);
}

/** @param {import("../../shell/types.js").App} app @param {string} stream_id */
async function allResults(app, stream_id) {
  const all = [];
  let after_seq = -1;
  for (;;) {
    const { results, complete, next_seq } = await app.api.results(stream_id, { after_seq });
    all.push(...results);
    if (complete || next_seq === after_seq) return all;
    after_seq = next_seq;
  }
}

/** @param {import("./timeline.js").Timeline} timeline */
function seen(timeline) {
  return [...timeline.channels.values()].map((channel) => ({ ...channel.spec, points: channel.points, spans: channel.spans }));
}

/** @param {string} href @param {string} name of the file */
function save(href, name) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.click();
}
