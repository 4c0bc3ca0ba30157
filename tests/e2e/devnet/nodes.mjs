// The nodes of a running network: their addresses, their connections, and what a test does to them.
import fs from "node:fs";
import path from "node:path";
import { DevnetError, readOptions, required, whole } from "./args.mjs";
import { get } from "./chain.mjs";
import { ACTIONS, act, isAlive, launch, mustRun, processesOf, until } from "./processes.mjs";

// Two dozen nodes that start at once on two cores take more than a minute.
export const START_SECONDS = 180;
/** Connections that a node opens by itself: enough that the network holds together when some of the nodes are down. */
const DIALLED = 5;

export const networkFile = (dir) => path.join(dir, "network.json");

export function loadNetwork(options) {
  const dir = path.resolve(required(options, "dir"));
  if (!fs.existsSync(networkFile(dir))) throw new DevnetError(`there is no network in ${dir}; start one with: devnet.mjs up --dir ${dir}`);
  return { dir, ...JSON.parse(fs.readFileSync(networkFile(dir), "utf8")) };
}

/** Waits for a process to print `address=URL`: it chose the port itself, so no two runs can meet. */
export const addressOf = (record) =>
  until(`address of ${record.name} in ${record.log}`, START_SECONDS, () => {
    mustRun([record]);
    return /address=(http:\/\/127\.0\.0\.1:\d+)/.exec(fs.readFileSync(record.log, "utf8"))?.[1];
  });

/** Makes every later node dial earlier ones, at most DIALLED: there is no discovery on this network. */
export async function connect(beacons) {
  for (const [at, url] of beacons.entries()) await dial(url, beacons.slice(Math.max(0, at - DIALLED), at));
}

/** Makes the node at `url` dial each of `others`, and waits for the connections. */
async function dial(url, others) {
  for (const other of others) {
    const { peer_id: peerId, p2p_addresses: [multiaddr] } = await get(other, "/eth/v1/node/identity");
    const query = new URLSearchParams({ peerId, multiaddr: multiaddr.replace(/\/p2p\/.*/, "") });
    await until(`connection of ${url} to ${multiaddr}`, START_SECONDS, async () => {
      await fetch(`${url}/eth/v1/lodestar/connect_peer?${query}`, { method: "POST", signal: AbortSignal.timeout(5000) });
      const peers = await get(url, "/eth/v1/node/peers");
      return peers.some((peer) => peer.peer_id === peerId && peer.state === "connected");
    });
  }
}

function processNamed(dir, name) {
  const records = processesOf(dir);
  const record = records.find((candidate) => candidate.name === name);
  if (!record) throw new DevnetError(`there is no ${name} in ${dir}; there are ${records.map((r) => r.name).join(", ")}`);
  return record;
}

/** Kills, pauses or resumes one process. */
export function signal(argv) {
  const options = readOptions(argv, { dir: undefined, name: undefined, do: undefined });
  const { dir } = loadNetwork(options);
  const action = required(options, "do");
  if (!ACTIONS.includes(action)) throw new DevnetError(`--do must be one of ${ACTIONS.join(", ")}`);
  const record = processNamed(dir, required(options, "name"));
  act(dir, record, action);
  return { name: record.name, action };
}

/** Starts a killed node again on its old address and connects it to the nodes that run. */
export async function restart(argv) {
  const options = readOptions(argv, { dir: undefined, node: undefined, fresh: false });
  const { dir, beacons } = loadNetwork(options);
  const at = whole(options, "node", 1, beacons.length) - 1;
  const name = `beacon${at + 1}`;
  const old = processNamed(dir, name);
  if (isAlive(old)) throw new DevnetError(`${name} runs; kill it first`);
  if (options.fresh) fs.rmSync(old.cwd, { recursive: true, force: true });
  const args = [...old.args];
  args[args.indexOf("--rest.port") + 1] = new URL(beacons[at]).port;
  const record = launch(dir, name, old.program, args, old.env);
  await until(`answer of ${name}; see ${record.log}`, START_SECONDS, () => {
    mustRun([record]);
    return get(beacons[at], "/eth/v1/node/identity");
  });
  const peers = await dialNeighbours(dir, beacons, at);
  return { name, address: beacons[at], peers };
}

/** Connects a node that has lost its peers, because it or they were away for long, to those that run. */
export async function reconnect(argv) {
  const options = readOptions(argv, { dir: undefined, node: undefined });
  const { dir, beacons } = loadNetwork(options);
  const at = whole(options, "node", 1, beacons.length) - 1;
  return { name: `beacon${at + 1}`, peers: await dialNeighbours(dir, beacons, at) };
}

/** Nodes dial their neighbours: those of this one may have lost it, too, and without discovery nobody else is there for them. */
async function dialNeighbours(dir, beacons, at) {
  const away = (other) => {
    const distance = Math.abs(other - at);
    return Math.min(distance, beacons.length - distance);
  };
  const runs = (other) => other !== at && processNamed(dir, `beacon${other + 1}`).state === "running";
  const near = [...beacons.keys()].filter(runs).sort((one, other) => away(one) - away(other)).slice(0, 2 * DIALLED);
  await dial(beacons[at], near.map((other) => beacons[other]));
  return near.length;
}
