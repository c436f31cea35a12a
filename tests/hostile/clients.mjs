// POSTs the file named second to the address named first with Node's fetch, over kept connections, also as a stream.
// Prints a line for each: its name, the status, the body.

import { readFile } from "node:fs/promises";

const [address, file] = process.argv.slice(2);
const body = await readFile(file);

async function post(name, options) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(address, { method: "POST", headers, ...options });
  console.log([name, answer.status, await answer.text()].join("\t"));
}

for (let round = 0; round < 3; round++) {
  await post("buffer", { body });
  await post("text", { body: body.toString() });
  const pieces = [body.subarray(0, 100), body.subarray(100)];
  const stream = new ReadableStream({
    pull(controller) {
      if (pieces.length) controller.enqueue(pieces.shift());
      else controller.close();
    },
  });
  await post("stream", { body: stream, duplex: "half" });
}
await Promise.all(Array.from({ length: 8 }, () => post("together", { body })));
