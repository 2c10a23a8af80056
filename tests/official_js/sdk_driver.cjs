// The official JavaScript SDK as a program: reads commands from stdin and tells what happens on stdout, one JSON object a line.
// Arguments: the folder of node's modules. What the SDK prints itself goes to stderr.
"use strict";

const path = require("path");
const readline = require("readline");

const modules = process.argv[2];
const load = (name) => require(path.join(modules, name));

console.log = console.debug = console.info = console.error;
globalThis.WebSocket = load("ws");
const { default: ftWebsocket } = load("futu-api");

const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const sdks = {};

function start({ name, ip, port, ssl, key }) {
  const sdk = new ftWebsocket();
  sdks[name] = sdk;
  sdk.onlogin = (ok, detail) => {
    tell({ event: "login", name, ok, detail: ok ? String(sdk.getConnID()) : String(detail) });
  };
  sdk.onPush = (cmd, message) => tell({ event: "push", name, cmd, message });
  sdk.start(ip, port, Boolean(ssl), key);
  // what the SDK itself does not hand on: every push, and every end of a connection
  sdk.websock.regPushCallback("driver", (raw) => {
    if (raw.cmd < 100) tell({ event: "raw", name, cmd: raw.cmd, error: raw.error, errmsg: raw.errmsg });
  });
  sdk.websock.onclose = (end) => tell({ event: "closed", name, code: end.code, reason: String(end.reason) });
}

async function call({ id, name, method, args }) {
  try {
    tell({ event: "answer", id, ok: true, message: await sdks[name][method](...args) });
  } catch (error) {
    // the SDK rejects with OpenD's response, a word of its own, or an Error
    tell({ event: "answer", id, ok: false, message: error instanceof Error ? String(error) : error });
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.op === "start") start(command);
  else call(command);
}).on("close", () => process.exit(0));

tell({ event: "ready" });
