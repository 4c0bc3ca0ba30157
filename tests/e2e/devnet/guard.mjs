// Loaded before the program in every process of a network (node --import). It ends the process when the owner
// of the network (the test) is gone or the network is too old, so a killed test leaves nothing behind.
//   DEVNET_OWNER  "PID:START", empty for no owner     DEVNET_LIFETIME  seconds
//   DEVNET_PATIENT_MODULE  Lodestar's sync module: the node never calls itself "syncing" for lack of blocks
import { isMainThread } from "node:worker_threads";
import { isAlive } from "./processes.mjs";

const OWNER_POLL_MS = 500;
const FOREVER_SLOTS = 1_000_000;

if (isMainThread) {
  const end = (why) => {
    console.error(`devnet: ${why}; this process ends`);
    process.kill(process.pid, "SIGKILL");
  };
  const [pid, started] = (process.env.DEVNET_OWNER ?? "").split(":");
  if (pid) {
    setInterval(() => isAlive({ pid: Number(pid), started }) || end(`the owner ${pid} is gone`), OWNER_POLL_MS).unref();
  }
  setTimeout(() => end("the network reached its lifetime"), Number(process.env.DEVNET_LIFETIME) * 1000).unref();
}

if (process.env.DEVNET_PATIENT_MODULE) {
  // Without this a node with no block for one epoch answers 503 to validators, and the chain never moves again.
  const { BeaconSync } = await import(process.env.DEVNET_PATIENT_MODULE);
  Object.defineProperty(BeaconSync.prototype, "slotImportTolerance", { get: () => FOREVER_SLOTS, set: () => {} });
}
