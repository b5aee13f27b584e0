// An editor made of the real Yjs, told what to do line by line: a JSON object in, one out.
//
//     node editor.cjs DIRECTORY    (the one in which `yjs` was installed)
"use strict";
const { createRequire } = require("node:module");
const { createInterface } = require("node:readline");
const { join } = require("node:path");

const Y = createRequire(join(process.argv[2], "/"))("yjs");
const doc = new Y.Doc();
const text = doc.getText("text");
const bytes = (encoded) => new Uint8Array(Buffer.from(encoded, "base64"));
const encoded = (data) => Buffer.from(data).toString("base64");
// What it is told counts code points, and Yjs UTF-16 units.
const units = (points) => [...text.toString()].slice(0, points).join("").length;

const does = {
  begin({ client }) {
    doc.clientID = client;
  },
  insert({ index, text: inserted }) {
    text.insert(units(index), inserted);
  },
  delete({ index, length }) {
    text.delete(units(index), units(index + length) - units(index));
  },
  apply({ update }) {
    Y.applyUpdate(doc, bytes(update));
  },
  lacking({ state }) {
    return { update: encoded(Y.encodeStateAsUpdate(doc, state ? bytes(state) : undefined)) };
  },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  const answer = does[asked.do](asked) ?? {};
  const state = encoded(Y.encodeStateVector(doc));
  process.stdout.write(`${JSON.stringify({ ...answer, state, text: text.toString() })}\n`);
});
