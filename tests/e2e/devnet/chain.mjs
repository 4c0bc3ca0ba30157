// What the chain says: its head and finality, and a scan of its blocks for missed slots, votes and offences.
import { DevnetError } from "./args.mjs";

const ANSWER_MS = 5000;

/** The `data` of a Beacon API answer; undefined for 404. */
export async function get(url, path) {
  const response = await fetch(url + path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_MS) });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${url}${path} answered ${response.status}: ${(await response.text()).slice(0, 200)}`);
  return (await response.json()).data;
}

export async function head(url) {
  const header = await get(url, "/eth/v1/beacon/headers/head");
  const finality = await get(url, "/eth/v1/beacon/states/head/finality_checkpoints");
  return {
    headSlot: Number(header.header.message.slot),
    justifiedEpoch: Number(finality.current_justified.epoch),
    finalizedEpoch: Number(finality.finalized.epoch),
  };
}

/** Indexes of the set bits of an SSZ bitlist (`0x` hex, least significant bit first, highest set bit is the length). */
function bitlist(hex) {
  const set = [];
  Buffer.from(hex.slice(2), "hex").forEach((byte, at) => {
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) set.push(at * 8 + bit);
  });
  return set.slice(0, -1);
}

const popcount = (hex) => [...hex.slice(2)].reduce((sum, digit) => sum + Number.parseInt(digit, 16).toString(2).replaceAll("0", "").length, 0);

/** A voter is a place in the committee of a slot, so two different votes at one place are a double vote. */
class Votes {
  #seen = new Map(); // "slot/committee/place" -> vote
  doubleVotes = 0;

  add({ data, aggregation_bits: bits }) {
    const vote = JSON.stringify(data);
    for (const place of bitlist(bits)) {
      const voter = `${data.slot}/${data.index}/${place}`;
      if ((this.#seen.get(voter) ?? vote) !== vote) this.doubleVotes += 1;
      this.#seen.set(voter, vote);
    }
  }

  perSlot() {
    const counts = new Map();
    for (const voter of this.#seen.keys()) {
      const slot = Number.parseInt(voter, 10);
      counts.set(slot, (counts.get(slot) ?? 0) + 1);
    }
    return counts;
  }
}

/** Reads every block from the start of the last `epochs` epochs to the head, as the node at `url` has them. */
export async function status(network, url, epochs) {
  const now = await head(url);
  const headEpoch = Math.floor(now.headSlot / network.slotsPerEpoch);
  const firstEpoch = Math.max(0, headEpoch - epochs + 1);
  const firstSlot = Math.max(1, firstEpoch * network.slotsPerEpoch);
  const votes = new Votes();
  const missedSlots = [];
  const forks = {};
  const out = { proposerSlashings: 0, attesterSlashings: 0, syncVotes: 0, syncSeats: 0 };
  let payloads = 0;
  for (let slot = firstSlot; slot <= now.headSlot; slot++) {
    const block = await blockAt(url, slot);
    if (!block) {
      missedSlots.push(slot);
      continue;
    }
    const { body } = block.message;
    forks[block.version] = (forks[block.version] ?? 0) + 1;
    out.proposerSlashings += body.proposer_slashings.length;
    out.attesterSlashings += body.attester_slashings.length;
    if (Number(body.execution_payload?.block_number ?? 0) > 0) payloads += 1;
    for (const attestation of body.attestations) votes.add(attestation);
    if (body.sync_aggregate) {
      out.syncVotes += popcount(body.sync_aggregate.sync_committee_bits);
      out.syncSeats += (body.sync_aggregate.sync_committee_bits.length - 2) * 4;
    }
  }
  const validators = await get(url, "/eth/v1/beacon/states/head/validators");
  const counts = votes.perSlot();
  const attestations = [];
  for (let epoch = firstEpoch; epoch <= headEpoch; epoch++) {
    const slots = Array.from({ length: network.slotsPerEpoch }, (_, place) => counts.get(epoch * network.slotsPerEpoch + place) ?? 0);
    const included = slots.reduce((sum, count) => sum + count, 0);
    // A vote may be included one epoch late, so an epoch is complete when the next one is over.
    attestations.push({ epoch, included, slots, expected: validators.length, complete: epoch + 2 <= headEpoch });
  }
  return {
    clockSlot: clockSlot(network), ...now, firstSlot, blocks: now.headSlot - firstSlot + 1 - missedSlots.length, missedSlots,
    forks, payloads, attestations, doubleVotes: votes.doubleVotes,
    slashedValidators: validators.filter((entry) => entry.validator.slashed).length, ...out,
  };
}

async function blockAt(url, slot) {
  const response = await fetch(`${url}/eth/v2/beacon/blocks/${slot}`, { signal: AbortSignal.timeout(ANSWER_MS) });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new DevnetError(`block ${slot}: ${url} answered ${response.status}`);
  const { version, data } = await response.json();
  return { version, message: data.message };
}

const sinceGenesis = (network) => Date.now() / 1000 - network.genesisTime;
export const clockSlot = (network) => Math.floor(sinceGenesis(network) / network.slotSeconds);

/** Milliseconds until the clock next stands at `part` (0 to 1) of a slot. */
export function untilPartOfSlot(network, part) {
  const slots = sinceGenesis(network) / network.slotSeconds;
  const wanted = Math.ceil(slots - part) + part;
  return (wanted - slots) * network.slotSeconds * 1000;
}
