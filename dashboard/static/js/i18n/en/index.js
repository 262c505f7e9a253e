import alerts from "./alerts.js";
import analyse from "./analyse.js";
import history from "./history.js";
import microphone from "./microphone.js";
import shell from "./shell.js";
import stream from "./stream.js";
import wall from "./wall.js";

export default { ...shell, ...wall, ...stream, ...alerts, ...history, ...microphone, ...analyse };
