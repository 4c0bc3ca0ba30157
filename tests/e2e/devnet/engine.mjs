// Mock execution engine: the part of the Engine API that a beacon node needs up to capella, and what a pool of execution
// clients asks to see that one is well. Every payload is valid, every payload built is empty. Listens on a free port of
// 127.0.0.1 and prints it. No JWT check.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const MAX_BODY_BYTES = 4 << 20;
const KEPT_PAYLOADS = 64;
const quantity = (n) => `0x${n.toString(16)}`;
const bytes = (length, fill) => `0x${fill.repeat(length)}`;

const heights = new Map(); // block hash -> block number
const offered = new Map(); // payload id -> execution payload
let highest = 0; // block number

function offer(parentHash, attributes) {
  const payload = {
    parentHash,
    feeRecipient: attributes.suggestedFeeRecipient,
    stateRoot: bytes(32, "11"),
    receiptsRoot: bytes(32, "22"),
    logsBloom: bytes(256, "00"),
    prevRandao: attributes.prevRandao,
    blockNumber: quantity((heights.get(parentHash) ?? 0) + 1),
    gasLimit: quantity(30_000_000),
    gasUsed: "0x0",
    timestamp: attributes.timestamp,
    extraData: "0x",
    baseFeePerGas: quantity(7),
    transactions: [],
    ...(attributes.withdrawals && { withdrawals: attributes.withdrawals }),
  };
  // Beacon nodes leave the check of this hash to the engine, so any unique value will do.
  payload.blockHash = `0x${createHash("sha256").update(JSON.stringify(payload)).digest("hex")}`;
  const id = `0x${payload.blockHash.slice(2, 18)}`;
  offered.set(id, payload);
  if (offered.size > KEPT_PAYLOADS) offered.delete(offered.keys().next().value);
  return id;
}

function accept(payload) {
  heights.set(payload.blockHash, Number(payload.blockNumber));
  highest = Math.max(highest, Number(payload.blockNumber));
  return { status: "VALID", latestValidHash: payload.blockHash, validationError: null };
}

function updateForkchoice({ headBlockHash }, attributes) {
  const payloadStatus = { status: "VALID", latestValidHash: headBlockHash, validationError: null };
  return { payloadStatus, payloadId: attributes ? offer(headBlockHash, attributes) : null };
}

function takePayload(id) {
  const payload = offered.get(id);
  if (!payload) throw new Error(`unknown payload ${id}`);
  return payload;
}

const methods = {
  engine_newPayloadV1: accept,
  engine_newPayloadV2: accept,
  engine_forkchoiceUpdatedV1: updateForkchoice,
  engine_forkchoiceUpdatedV2: updateForkchoice,
  engine_getPayloadV1: takePayload,
  engine_getPayloadV2: (id) => ({ executionPayload: takePayload(id), blockValue: "0x1" }),
  engine_exchangeTransitionConfigurationV1: (configuration) => configuration,
  eth_chainId: () => quantity(1),
  eth_syncing: () => false,
  eth_blockNumber: () => quantity(highest),
  net_peerCount: () => quantity(1), // it has none; a client without peers would rightly be called unhealthy
};

function answer({ id, method, params }) {
  try {
    const call = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (!call) throw new Error(`method ${method} is not part of this mock`);
    return { jsonrpc: "2.0", id, result: call(...(params ?? [])) };
  } catch (error) {
    console.error(`${method}: ${error.message}`);
    return { jsonrpc: "2.0", id, error: { code: -32000, message: error.message } };
  }
}

async function serve(request, response) {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > MAX_BODY_BYTES) throw new Error("request too large");
  }
  const call = JSON.parse(body);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(Array.isArray(call) ? call.map(answer) : answer(call)));
}

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error.message);
    response.writeHead(400).end(error.message);
  });
});
server.listen(0, "127.0.0.1", () => console.log(`engine address=http://127.0.0.1:${server.address().port}`));
