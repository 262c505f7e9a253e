/** The feed of the live streams, for the wall and the wallboard. */
import { connectLive } from "../../shell/live.js";

/**
 * Keep tiles up to date.
 * @param {import("../../shell/types.js").App} app
 * @param {import("./tiles.js").Tiles} tiles
 * @param {{onRaised: (alerts: import("./tiles.js").TileAlert[]) => void, onChange: (urgent: boolean) => void, onConnection: () => void}} handlers
 *   `onRaised`: alerts that are new, the first snapshot's included; `onChange`: something to draw;
 *   `onConnection`: the server went away, or is back
 * @returns {{close: () => void}}
 */
export function followStreams(app, tiles, { onRaised, onChange, onConnection }) {
  return connectLive({
    url: () => app.api.urlOf("/live"),
    onState(state, heard_at) {
      app.connection(state, heard_at);
      tiles.lost = state === "waiting";
      onConnection();
    },
    onMessage(message) {
      const raised = tiles.take(message);
      if (raised.length > 0) {
        app.emit("alerts");
        onRaised(raised);
      }
      const isSnapshot = message.type === "snapshot";
      tiles.loaded ||= isSnapshot;
      onChange(isSnapshot || raised.length > 0);
    },
  });
}
