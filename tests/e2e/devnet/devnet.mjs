#!/usr/bin/env node
// A local chain of real Lodestar processes with a mock execution engine, for end-to-end tests of a remote signer.
// Everything listens on free ports of 127.0.0.1; only processes of the given run are ever signalled; every wait
// has a limit. Results are JSON on standard output, explanations go to standard error, exit code 1 on failure.
import { createHash, randomBytes } from "node:crypto";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { addresses, DevnetError, readOptions, required, timeoutSeconds, whole } from "./args.mjs";
import { clockSlot, get, head, status, untilPartOfSlot } from "./chain.mjs";
import { keystore } from "./keys.mjs";
import { addressOf, connect, loadNetwork, networkFile, reconnect, restart, signal, START_SECONDS } from "./nodes.mjs";
import { endAll, forget, identify, launch, mustRun, processesOf, until } from "./processes.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const FORKS = ["altair", "bellatrix", "capella"];
const HOST = "127.0.0.1";
const INSTALL_MS = 10 * 60 * 1000;
const SLOTS_PER_EPOCH = 8; // minimal preset
const BEACON_START_SECONDS = 5;
// Each process takes about 200 MiB and, with slots of 6 s, a twentieth of a core.
const MAX_NODES = 32;
const MAX_VALIDATORS = 1024;
const NPM_FILES = ["package.json", "package-lock.json"];
const SNAPPY = "snappy.cjs";

const HELP = `usage: node devnet.mjs COMMAND OPTIONS
  install [--tools DIR]            install the pinned Lodestar (nothing to do when it is there)
  up --dir RUN [--tools DIR] [--nodes 1] [--validators 16] [--slot-seconds 2] [--genesis-delay SECONDS]
     [--forks altair=0,bellatrix=0,capella=0] [--patient] [--owner PID] [--lifetime 3600]
  vc --dir RUN (--signer URL | --local) [--beacons URL,URL] [--name vc]
  end --dir RUN [--name vc]
  wait --dir RUN [--node 1] [--head SLOT] [--finalized EPOCH] [--slot-part 0.0-1.0] [--timeout 120]
  status --dir RUN [--node 1] [--epochs 4]
  signal --dir RUN --name NAME --do kill|pause|resume      NAME is beacon1, beacon2, ..., engine or a client's name
  restart --dir RUN --node K [--fresh]                     a killed node again, on its address; --fresh empties its database
  reconnect --dir RUN --node K                             a node that was away for long, to the nodes beside it
  down --dir RUN [--purge]
--tools: default is HOLDFAST_DEVNET_TOOLS, else holdfast-devnet in the user's cache folder.
--owner: all processes end when this process ends. --patient: nodes stay in service without blocks.`;

const print = (value) => console.log(JSON.stringify(value));

// ---- install

function toolsFolder(options) {
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  const root = options.tools ?? process.env.HOLDFAST_DEVNET_TOOLS ?? path.join(cache, "holdfast-devnet");
  const hash = createHash("sha256");
  for (const file of [...NPM_FILES, SNAPPY]) hash.update(fs.readFileSync(path.join(HERE, file)));
  // One folder per lock: another lock never meets a half-fitting installation.
  return path.join(path.resolve(root), hash.digest("hex").slice(0, 16));
}

const lodestarIn = (tools) => path.join(tools, "node_modules/@chainsafe/lodestar/lib/index.js");

function install(argv) {
  const tools = toolsFolder(readOptions(argv, { tools: undefined }));
  const started = Date.now();
  if (fs.existsSync(lodestarIn(tools))) return print({ tools, installed: false });
  const major = Number.parseInt(process.versions.node, 10);
  if (major !== 20 && major !== 22) throw new DevnetError(`this Lodestar runs on Node 20 or 22, not on ${process.version}`);
  fs.mkdirSync(path.dirname(tools), { recursive: true });
  const fresh = fs.mkdtempSync(`${tools}.new-`);
  try {
    for (const file of NPM_FILES) fs.copyFileSync(path.join(HERE, file), path.join(fresh, file));
    // No install scripts, so no compiler: native parts come ready-made, or a JavaScript part takes their place.
    const npm = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: fresh, stdio: ["ignore", 2, 2], timeout: INSTALL_MS,
    });
    if (npm.status !== 0) throw new DevnetError(`npm ci failed: ${npm.error?.message ?? `exit code ${npm.status}`}; is a registry reachable?`);
    fs.copyFileSync(path.join(HERE, SNAPPY), path.join(fresh, "node_modules/snappy/index.js"));
    publish(fresh, tools);
  } finally {
    fs.rmSync(fresh, { recursive: true, force: true });
  }
  print({ tools, installed: true, seconds: (Date.now() - started) / 1000 });
}

/** Moves a finished installation to its place; another process may have been faster with the same one. */
function publish(fresh, tools) {
  try {
    fs.renameSync(fresh, tools);
  } catch (error) {
    if (!fs.existsSync(lodestarIn(tools))) throw error;
  }
}

// ---- up

function forkEpochs(text) {
  const epochs = Object.fromEntries(text.split(",").map((part) => part.split("=")));
  for (const [fork, epoch] of Object.entries(epochs)) {
    if (!FORKS.includes(fork) || !/^\d{1,6}$/.test(epoch)) throw new DevnetError(`--forks: ${fork}=${epoch} is not one of ${FORKS} with an epoch`);
  }
  return epochs;
}

function networkYaml(forks, genesisTime, slotSeconds) {
  const values = {
    PRESET_BASE: "minimal",
    CONFIG_NAME: "holdfast-devnet",
    MIN_GENESIS_ACTIVE_VALIDATOR_COUNT: 1,
    MIN_GENESIS_TIME: genesisTime,
    GENESIS_DELAY: 0,
    SECONDS_PER_SLOT: slotSeconds,
    TERMINAL_TOTAL_DIFFICULTY: 0,
    GENESIS_FORK_VERSION: "0x00000055",
  };
  FORKS.forEach((fork, at) => {
    if (forks[fork] === undefined) return;
    values[`${fork.toUpperCase()}_FORK_VERSION`] = `0x0${at + 1}000055`;
    values[`${fork.toUpperCase()}_FORK_EPOCH`] = forks[fork];
  });
  return Object.entries(values).map(([key, value]) => `${key}: ${value}\n`).join("");
}

/** What every process of a network needs in its environment; kept so that later clients get the same. */
function commonEnvironment(options) {
  return {
    DEVNET_OWNER: options.owner ? identify(whole(options, "owner", 1, 2 ** 31)) : "",
    DEVNET_LIFETIME: String(whole(options, "lifetime", 1, 86_400)),
    LODESTAR_PRESET: "minimal",
    NODE_BACKEND: "js", // a dependency then asks for no compiled module
    NO_COLOR: "1",
  };
}

async function up(argv) {
  const options = readOptions(argv, {
    dir: undefined, tools: undefined, nodes: "1", validators: "16", "slot-seconds": "2", "genesis-delay": undefined,
    forks: "altair=0,bellatrix=0,capella=0", patient: false, owner: undefined, lifetime: "3600",
  });
  const dir = path.resolve(required(options, "dir"));
  const tools = toolsFolder(options);
  if (!fs.existsSync(lodestarIn(tools))) throw new DevnetError(`there is no Lodestar in ${tools}; run: devnet.mjs install`);
  if (fs.existsSync(dir) && fs.readdirSync(dir).length > 0) throw new DevnetError(`${dir} is not empty; take a new folder`);
  const nodes = whole(options, "nodes", 1, MAX_NODES);
  const validators = whole(options, "validators", SLOTS_PER_EPOCH, MAX_VALIDATORS);
  const slotSeconds = whole(options, "slot-seconds", 1, 12);
  options["genesis-delay"] ??= String(10 + BEACON_START_SECONDS * nodes);
  const genesisTime = Math.ceil(Date.now() / 1000) + whole(options, "genesis-delay", 5, 600);
  const environment = commonEnvironment(options);

  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  const configFile = path.join(dir, "config.yaml");
  fs.writeFileSync(configFile, networkYaml(forkEpochs(options.forks), genesisTime, slotSeconds));
  fs.writeFileSync(path.join(dir, "jwt.hex"), randomBytes(32).toString("hex"));
  try {
    const { beacons, engine } = await startChain(dir, { tools, nodes, validators, genesisTime, configFile, environment, patient: options.patient });
    const { genesis_validators_root: genesisValidatorsRoot } = await get(beacons[0], "/eth/v1/beacon/genesis");
    const keys = await writeKeys(dir, beacons[0]);
    const network = {
      beacons, engine, genesisTime, genesisValidatorsRoot, slotSeconds, slotsPerEpoch: SLOTS_PER_EPOCH, configFile, ...keys, tools, environment,
    };
    fs.writeFileSync(networkFile(dir), JSON.stringify(network, null, 2));
    const { tools: _tools, environment: _environment, ...facts } = network;
    print({ dir, ...facts, secondsToGenesis: genesisTime - Date.now() / 1000 });
  } catch (error) {
    await endAll(processesOf(dir));
    throw error;
  }
}

async function startChain(dir, { tools, nodes, validators, genesisTime, configFile, environment, patient }) {
  const engine = await addressOf(launch(dir, "engine", path.join(HERE, "engine.mjs"), [], environment));
  const syncModule = pathToFileURL(path.join(tools, "node_modules/@lodestar/beacon-node/lib/sync/index.js")).href;
  const env = { ...environment, ...(patient && { DEVNET_PATIENT_MODULE: syncModule }) };
  const records = Array.from({ length: nodes }, (_, at) =>
    launch(dir, `beacon${at + 1}`, lodestarIn(tools), [
      "dev", "--dataDir", "data", "--paramsFile", configFile,
      "--genesisValidators", String(validators), "--genesisTime", String(genesisTime),
      "--rest", "--rest.address", HOST, "--rest.port", "0", "--rest.namespace", "*",
      "--listenAddress", HOST, "--port", "0", "--discv5", "false", "--subscribeAllSubnets",
      "--execution.urls", engine, "--jwt-secret", path.join(dir, "jwt.hex"), "--eth1", "false",
      "--logFile", "none", "--logLevel", "info",
    ], env));
  const beacons = await Promise.all(records.map(addressOf));
  await connect(beacons);
  return { beacons, engine };
}

/** Writes a keystore per validator; the public keys come from the genesis state itself. */
async function writeKeys(dir, beacon) {
  const validators = await get(beacon, "/eth/v1/beacon/states/head/validators");
  const pubkeys = validators.sort((a, b) => a.index - b.index).map((entry) => entry.validator.pubkey);
  const keystoresDir = path.join(dir, "keys");
  const passwordFile = path.join(dir, "password.txt");
  const password = randomBytes(12).toString("base64url");
  fs.mkdirSync(keystoresDir);
  fs.writeFileSync(passwordFile, `${password}\n`);
  pubkeys.forEach((pubkey, index) => {
    fs.writeFileSync(path.join(keystoresDir, `keystore-${String(index).padStart(3, "0")}.json`), JSON.stringify(keystore(index, pubkey, password)));
  });
  return { keystoresDir, passwordFile, pubkeys };
}

// ---- vc, end, wait, status, down

async function vc(argv) {
  const options = readOptions(argv, { dir: undefined, signer: undefined, local: false, beacons: undefined, name: "vc" });
  const network = loadNetwork(options);
  if (Boolean(options.signer) === options.local) throw new DevnetError("give either --signer URL or --local");
  if (!/^vc[a-z0-9-]*$/.test(options.name)) throw new DevnetError("--name must begin with vc and have small letters and digits only");
  if (processesOf(network.dir).some(({ name }) => name === options.name)) throw new DevnetError(`${options.name} was started before; give another --name`);
  const beacons = options.beacons ? addresses(options.beacons, "beacons") : network.beacons;
  const keys = options.local
    ? ["--interopIndexes", `0..${network.pubkeys.length - 1}`]
    : ["--externalSigner.url", addresses(options.signer, "signer")[0], "--externalSigner.fetch"];
  const record = launch(network.dir, options.name, lodestarIn(network.tools), [
    "validator", "--network", "dev", "--paramsFile", network.configFile, "--dataDir", "data",
    "--beaconNodes", beacons.join(","), ...keys, "--graffiti", options.name,
    "--suggestedFeeRecipient", `0x${"de".repeat(20)}`, "--logFile", "none", "--logLevel", "debug",
  ], network.environment);
  await until(`validators in ${record.log}`, START_SECONDS, () => {
    mustRun([record]);
    return fs.readFileSync(record.log, "utf8").includes(network.pubkeys[0]);
  });
  print({ name: options.name, pid: record.pid, log: record.log, beacons });
}

/** Ends one process for good; the network goes on without it. */
async function end(argv) {
  const options = readOptions(argv, { dir: undefined, name: "vc" });
  const { dir } = loadNetwork(options);
  const record = processesOf(dir).find(({ name }) => name === options.name);
  if (!record) throw new DevnetError(`no ${options.name} was started in ${dir}`);
  const ended = await endAll([record]);
  forget(dir, record);
  print(ended);
}

async function wait(argv) {
  const options = readOptions(argv, { dir: undefined, node: "1", head: "0", finalized: "0", "slot-part": undefined, timeout: "120" });
  const network = loadNetwork(options);
  const beacon = network.beacons[whole(options, "node", 1, network.beacons.length) - 1];
  const slot = whole(options, "head", 0, 1e9);
  const epoch = whole(options, "finalized", 0, 1e9);
  let last = {};
  const reached = await until(`head ${slot} and finalized epoch ${epoch}`, timeoutSeconds(options), async () => {
    mustRun(processesOf(network.dir));
    last = await head(beacon);
    return last.headSlot >= slot && last.finalizedEpoch >= epoch && last;
  }).catch((error) => {
    throw error instanceof DevnetError ? new DevnetError(`${error.message}; at ${JSON.stringify(last)}`) : error;
  });
  if (options["slot-part"] !== undefined) {
    const part = Number(options["slot-part"]);
    if (!(part >= 0 && part < 1)) throw new DevnetError("--slot-part must be at least 0 and below 1");
    await pause(untilPartOfSlot(network, part));
  }
  print({ clockSlot: clockSlot(network), ...reached });
}

async function showStatus(argv) {
  const options = readOptions(argv, { dir: undefined, node: "1", epochs: "4" });
  const network = loadNetwork(options);
  const beacon = network.beacons[whole(options, "node", 1, network.beacons.length) - 1];
  print(await status(network, beacon, whole(options, "epochs", 1, 1000)));
}

async function down(argv) {
  const options = readOptions(argv, { dir: undefined, purge: false });
  const dir = path.resolve(required(options, "dir"));
  const records = processesOf(dir);
  const ended = await endAll(records);
  if (options.purge && fs.existsSync(dir)) {
    if (records.length === 0) throw new DevnetError(`${dir} holds no network; nothing was deleted`);
    fs.rmSync(dir, { recursive: true, force: true });
  }
  print(ended);
}

const commands = {
  install, up, vc, end, wait, status: showStatus, down,
  signal: (argv) => print(signal(argv)),
  restart: async (argv) => print(await restart(argv)),
  reconnect: async (argv) => print(await reconnect(argv)),
};
const [command, ...rest] = process.argv.slice(2);
try {
  if (!Object.hasOwn(commands, command ?? "")) throw new DevnetError(HELP);
  await commands[command](rest);
} catch (error) {
  console.error(error instanceof DevnetError ? `devnet: ${error.message}` : error);
  process.exitCode = 1;
}
