// The calculator in WebAssembly, hosted by Node: usage: node host.mjs MODULE.wasm
import { readFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";

const compiled = new WebAssembly.Module(readFileSync(process.argv[2]));
if (WebAssembly.Module.imports(compiled).length > 0) {
  throw new Error("the module asks for something from outside");
}

// One instance a connection: the module holds one machine.
function serve(socket) {
  const machine = new WebAssembly.Instance(compiled, {}).exports;
  const never = 2n ** 64n - 1n;
  let timer, over = false;

  const clocks = () => [process.hrtime.bigint(), BigInt(Date.now()) * 1_000_000n];
  const tell = () => machine.set_now(...clocks());
  const unsigned = (wasm) => BigInt.asUintN(64, wasm);

  function turn(bytes, eof) {
    if (over) return;
    tell();
    new Uint8Array(machine.memory.buffer, machine.scratch(), bytes.length).set(bytes);
    over = machine.handle_input(bytes.length, eof) !== 0;
    for (let n; (n = machine.output_len()) > 0; machine.advance(n)) {
      socket.write(Buffer.from(new Uint8Array(machine.memory.buffer, machine.output(), n)));
    }
    clearTimeout(timer);
    if (over) return socket.end();
    const at = unsigned(machine.poll_timeout());
    if (at !== never) {
      const wait = Number((at - process.hrtime.bigint()) / 1_000_000n) + 1;
      timer = setTimeout(() => { tell(); machine.handle_timeout(); turn([], false); }, Math.max(wait, 0));
    }
  }

  machine.open(...clocks());
  // A read may be longer than the scratch.
  socket.on("data", (read) => {
    for (let at = 0; at < read.length; at += 4096) turn(read.subarray(at, at + 4096), false);
  });
  socket.on("end", () => turn([], true));
  socket.on("close", () => clearTimeout(timer));
}

const dialogue = [
  ["2 + 3", "= 5"],
  ["* 8", "= 40"],
  ["/ 0", "? no such number"],
  ["hello", "? write: 2 + 3"],
  ["- 42", "= -2"],
  ["quit", "bye"],
];

const server = createServer({ allowHalfOpen: true }, serve);
server.listen(0, "127.0.0.1", async () => {
  const client = createConnection(server.address().port, "127.0.0.1");
  client.setNoDelay(true);
  client.setEncoding("utf8");
  let wrong = 0, heard = "";
  const answers = client[Symbol.asyncIterator]();
  for (const [line, expected] of dialogue) {
    client.write(line.slice(0, 1));
    client.write(line.slice(1) + "\n");
    while (!heard.includes("\n")) {
      const { value, done } = await answers.next();
      if (done) break;
      heard += value;
    }
    const end = heard.indexOf("\n");
    const answer = heard.slice(0, end);
    heard = heard.slice(end + 1);
    console.log(line.padEnd(12), answer);
    if (answer !== expected) {
      console.error(`expected ${expected}`);
      wrong += 1;
    }
  }
  client.end();
  server.close();
  process.exitCode = wrong ? 1 : 0;
});
