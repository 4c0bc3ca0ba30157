// Reads options and reports mistakes. Every command takes long options only.
import { parseArgs } from "node:util";

/** A mistake or a failure that is explained to the user without a stack trace. */
export class DevnetError extends Error {}

const MAX_WAIT_SECONDS = 3600;

/** `spec` maps option names to a default; `false` marks a switch, `undefined` an option without default. */
export function readOptions(argv, spec) {
  const options = {};
  for (const [name, fallback] of Object.entries(spec)) {
    options[name] = { type: fallback === false ? "boolean" : "string" };
  }
  try {
    const { values } = parseArgs({ args: argv, options, strict: true, allowPositionals: false });
    return { ...spec, ...values };
  } catch (error) {
    throw new DevnetError(`${error.message}; known options: ${Object.keys(spec).map((n) => `--${n}`).join(" ")}`);
  }
}

export function required(options, name) {
  if (!options[name]) throw new DevnetError(`give --${name}`);
  return options[name];
}

export function whole(options, name, min, max) {
  const value = Number(options[name]);
  if (options[name] === undefined || !Number.isInteger(value) || value < min || value > max) {
    throw new DevnetError(`--${name} must be a whole number from ${min} to ${max}, not ${options[name]}`);
  }
  return value;
}

export const timeoutSeconds = (options) => whole(options, "timeout", 1, MAX_WAIT_SECONDS);

/** Turns "a,b" into checked http addresses without a slash at the end. */
export function addresses(list, name) {
  return list.split(",").map((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!/^https?:$/.test(url?.protocol)) throw new DevnetError(`--${name}: ${text} is not an http:// or https:// address`);
    return text.replace(/\/+$/, "");
  });
}
