/**
 * The browser feed: a WebSocket that comes back by itself. While the tab is hidden nothing is sent
 * and nothing is drawn; the server begins anew with a snapshot when it is visible again.
 */

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const STEADY_MS = 5_000;
/** The server says something every 5 s. A connection that is quiet for longer is dead, closed or not. */
const QUIET_MS = 12_000;
/** The server has said all there is to say. */
const NORMAL_END = 1000;

/**
 * @param {object} options
 * @param {() => string | null} options.url path and query, asked at each connection, so that it can
 *   say what was seen last; null: the feed has come to its end
 * @param {(message: any) => void} options.onMessage
 * @param {(state: "live" | "waiting", heard_at: number) => void} options.onState `heard_at`: when
 *   the server was last heard, seconds since 1970
 * @returns {{close: () => void}}
 */
export function connectLive({ url, onMessage, onState }) {
  /** @type {WebSocket | null} */
  let socket = null;
  let delay_ms = FIRST_DELAY_MS;
  let timer = 0;
  let watch = 0;
  let heard_at = Date.now() / 1000;
  let closed = false;

  function heard() {
    heard_at = Date.now() / 1000;
    clearTimeout(watch);
    if (!document.hidden) watch = setTimeout(lost, QUIET_MS);
  }

  /** Connect anew, at once: the present connection is dead. */
  function lost() {
    if (closed || document.hidden) return;
    const dead = socket;
    socket = null;
    dead?.close();
    onState("waiting", heard_at);
    clearTimeout(timer);
    open();
  }

  function open() {
    const path = closed ? null : url();
    if (path === null) return;
    const address = new URL(path, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    const opened_at = performance.now();
    const current = socket;
    current.onopen = () => {
      if (closed || current !== socket) return;
      heard();
      onState("live", heard_at);
      if (document.hidden) tell();
    };
    current.onmessage = ({ data }) => {
      if (current !== socket || closed) return;
      heard();
      const message = JSON.parse(data);
      if (message.type !== "alive") onMessage(message);
    };
    current.onclose = ({ code }) => {
      if (closed || current !== socket) return;
      socket = null;
      clearTimeout(watch);
      if (code === NORMAL_END) return;
      if (performance.now() - opened_at > STEADY_MS) delay_ms = FIRST_DELAY_MS;
      if (url() === null) return;
      onState("waiting", heard_at);
      timer = setTimeout(open, delay_ms * (0.7 + 0.6 * Math.random()));
      delay_ms = Math.min(2 * delay_ms, LONGEST_DELAY_MS);
    };
  }

  function tell() {
    clearTimeout(watch);
    if (!document.hidden && socket) watch = setTimeout(lost, QUIET_MS);
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
      clearTimeout(watch);
      document.removeEventListener("visibilitychange", tell);
      window.removeEventListener("online", tell);
      socket?.close();
    },
  };
}
