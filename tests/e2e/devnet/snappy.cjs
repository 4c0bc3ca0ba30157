"use strict";
// The calls of the native snappy package that Lodestar uses, on snappyjs. `install` puts it in place of snappy.
const js = require("snappyjs");

const compressSync = (input) => js.compress(Buffer.from(input));
const uncompressSync = (input, { asBuffer = true } = {}) => {
  const output = js.uncompress(Buffer.from(input));
  return asBuffer ? output : output.toString();
};

/** `work` with Node's callback convention; the callback is the last argument. */
const later = (work) => (...args) => {
  const callback = args.pop();
  Promise.resolve()
    .then(() => work(...args))
    .then((output) => setImmediate(callback, null, output), (error) => setImmediate(callback, error));
};

module.exports = { compressSync, uncompressSync, compress: later(compressSync), uncompress: later(uncompressSync) };
