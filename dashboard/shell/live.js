/**
 * The browser feed: a WebSocket that comes back by itself. While the tab is hidden nothing is sent
 * and nothing is drawn; the server begins anew with a snapshot when it is visible again.
 */

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const STEADY_MS = 5_000;
/** The server has said all there is to say. */
const NORMAL_END = 1000;

/**
 * @param {object} options
 * @param {() => string | null} options.url path and query, asked at each connection, so that it can
 *   say what was seen last; null: the feed has come to its end
 * @param {(message: any) => void} options.onMessage
 * @param {(state: "live" | "waiting") => void} options.onState
 * @returns {{close: () => void}}
 */
export function connectLive({ url, onMessage, onState }) {
  /** @type {WebSocket | null} */
  let socket = null;
  let delay_ms = FIRST_DELAY_MS;
  let timer = 0;
  let closed = false;

  function open() {
    const path = closed ? null : url();
    if (path === null) return;
    const address = new URL(path, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    const opened_at = performance.now();
    const current = socket;
    current.onopen = () => {
      onState("live");
      if (document.hidden) tell();
    };
    current.onmessage = ({ data }) => {
      if (current === socket && !closed) onMessage(JSON.parse(data));
    };
    current.onclose = ({ code }) => {
      if (closed || current !== socket) return;
      socket = null;
      if (code === NORMAL_END) return;
      if (performance.now() - opened_at > STEADY_MS) delay_ms = FIRST_DELAY_MS;
      if (url() === null) return;
      onState("waiting");
      timer = setTimeout(open, delay_ms * (0.7 + 0.6 * Math.random()));
      delay_ms = Math.min(2 * delay_ms, LONGEST_DELAY_MS);
    };
  }

  function tell() {
    if (socket?.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ visible: !document.hidden }));
    } else if (!document.hidden && socket === null && !closed) {
      clearTimeout(timer); // whoever looks again does not wait for the next try
      delay_ms = FIRST_DELAY_MS;
      open();
    }
  }

  document.addEventListener("visibilitychange", tell);
  window.addEventListener("online", tell);
  open();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", tell);
      window.removeEventListener("online", tell);
      socket?.close();
    },
  };
}
