// Starts, watches and ends the processes of one network. A process is known by its id and its start time, so an
// id that the system has given to somebody else meanwhile is never signalled.
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { DevnetError } from "./args.mjs";

const GUARD = path.join(path.dirname(fileURLToPath(import.meta.url)), "guard.mjs");
const POLL_MS = 100;
const POLITE_MS = 4000;
const LOG_TAIL_CHARS = 2500;

/** Start time of a living process in the system's own form, or undefined. */
function startOf(pid) {
  if (process.platform === "linux") {
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
      // After the name in parentheses, which may hold anything: state, then 18 numbers, then the start time.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return fields[0] === "Z" ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  const ps = spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" });
  return ps.status === 0 ? ps.stdout.trim().replaceAll(/[\s:]+/g, "-") : undefined;
}

export const isAlive = ({ pid, started }) => startOf(pid) === started;

/** The identity of a living process, as text for DEVNET_OWNER. */
export function identify(pid) {
  const started = startOf(pid);
  if (started === undefined) throw new DevnetError(`there is no process ${pid} that could own the network`);
  return `${pid}:${started}`;
}

const recordsDir = (dir) => path.join(dir, "processes");

export function processesOf(dir) {
  if (!fs.existsSync(recordsDir(dir))) return [];
  return fs.readdirSync(recordsDir(dir)).map((file) => JSON.parse(fs.readFileSync(path.join(recordsDir(dir), file), "utf8")));
}

const save = (dir, record) => fs.writeFileSync(path.join(recordsDir(dir), `${record.name}.json`), JSON.stringify(record));

/** Starts `node program args` in the background, its output at the end of DIR/logs/NAME.log. */
export function launch(dir, name, program, args, env) {
  const cwd = path.join(dir, name);
  for (const folder of [cwd, recordsDir(dir), path.join(dir, "logs")]) fs.mkdirSync(folder, { recursive: true });
  const log = path.join(dir, "logs", `${name}.log`);
  const out = fs.openSync(log, "a");
  const child = spawn(process.execPath, ["--import", pathToFileURL(GUARD).href, program, ...args], {
    cwd, detached: true, stdio: ["ignore", out, out], env: { ...process.env, ...env },
  });
  fs.closeSync(out);
  child.unref();
  if (child.pid === undefined) throw new DevnetError(`${name} cannot be started with ${process.execPath}`);
  const record = { name, pid: child.pid, started: startOf(child.pid), log, cwd, program, args, env, state: "running" };
  save(dir, record);
  return record;
}

const SIGNALS = { kill: ["SIGKILL", "killed"], pause: ["SIGSTOP", "paused"], resume: ["SIGCONT", "running"] };
export const ACTIONS = Object.keys(SIGNALS);

/** Sends a process what `action` stands for, and remembers that its state is meant. */
export function act(dir, record, action) {
  const [signal, state] = SIGNALS[action];
  if (!isAlive(record)) throw new DevnetError(`${record.name} does not run`);
  process.kill(record.pid, signal);
  save(dir, { ...record, state });
}

/** From now on nobody minds that the process is gone. */
export const forget = (dir, { name }) => fs.rmSync(path.join(recordsDir(dir), `${name}.json`));

/** Throws, with the end of the log, when a process of the network has ended that nobody killed on purpose. */
export function mustRun(records) {
  for (const record of records) {
    if (record.state === "killed" || isAlive(record)) continue;
    const tail = fs.readFileSync(record.log, "utf8").slice(-LOG_TAIL_CHARS);
    throw new DevnetError(`${record.name} has ended; its log ${record.log} ends with:\n${tail}`);
  }
}

/** Asks all processes to end, then makes them. Returns how each one ended. */
export async function endAll(records) {
  const send = (record, signal) => {
    try {
      if (isAlive(record)) process.kill(record.pid, signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  };
  const ended = Object.fromEntries(records.map((record) => [record.name, isAlive(record) ? "ended" : "had ended"]));
  for (const record of records) send(record, "SIGTERM");
  // A paused process hears of its end only when it goes on.
  for (const record of records) send(record, "SIGCONT");
  await until("", POLITE_MS / 1000, () => !records.some(isAlive)).catch(() => {});
  for (const record of records) {
    if (!isAlive(record)) continue;
    ended[record.name] = "killed";
    send(record, "SIGKILL");
  }
  await until("killed processes to go", POLITE_MS / 1000, () => !records.some(isAlive));
  return ended;
}

/** Calls `check` until it gives something true; a DevnetError of it ends the wait, any other error is "not yet". */
export async function until(what, seconds, check) {
  const limit = Date.now() + seconds * 1000;
  let last = "";
  while (Date.now() < limit) {
    try {
      const result = await check();
      if (result) return result;
    } catch (error) {
      if (error instanceof DevnetError) throw error;
      last = ` (last answer: ${error.cause?.message ?? error.message})`;
    }
    await pause(POLL_MS);
  }
  throw new DevnetError(`no ${what} within ${seconds} s${last}`);
}
