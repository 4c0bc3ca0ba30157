#!/usr/bin/env python3
"""An independent verifier of Holdfast's audit exports (docs/audit.md): standard library, and `cryptography` for signatures.
Usage: verify.py EXPORT [KEYFILE]     KEYFILE as `holdfast audit key` prints it; without one no signature is checked.
Prints "ok BATCHES RECORDS SIGNED_TO" and exits with 0, or names the first bad line and exits with 1."""
import base64, hashlib, json, sys
from datetime import datetime, timezone

KINDS = {name: code for code, name in enumerate(
    "block attestation aggregation_slot aggregate_and_proof randao_reveal voluntary_exit deposit sync_committee_message "
    "sync_committee_selection_proof sync_committee_contribution_and_proof validator_registration execution_payload_bid "
    "execution_payload_envelope payload_attestation proposer_preferences builder_request_auth".split(), 1)}
OUTCOMES = {"new_data": 1, "same_data": 2, "not_slashable": 3, "fence": 48}
for first, names in ((16, "block_slot_below_watermark double_block source_after_target source_below_watermark "
                          "target_below_watermark double_vote source_not_before_target"),
                     (32, "slot_in_future target_in_future wrong_genesis_validators_root key_disabled key_not_registered "
                          "protection_frozen"),
                     (56, "checkpoints_disagreed checkpoints_unknown doppelganger_pending doppelganger_detected no_lease")):
    OUTCOMES.update({name: code for code, name in enumerate(names.split(), first)})


class Bad(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Bad(what)


def millis(text):
    when = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return round(when.timestamp() * 1000)


sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
u64 = lambda number: number.to_bytes(8, "big")
text = lambda value: len(value.encode()).to_bytes(2, "big") + value.encode()


def leaf(record, time):
    if "event" in record:
        key = bytes.fromhex(record["key"][2:]) if "key" in record else None
        return (b"\x02" + u64(time) + u64(millis(record["at"])) + bytes([key is not None]) + (key or bytes(48))
                + text(record["by"]) + text(record["event"]) + text(record["about"]) + text(record["detail"]))
    need({"new_data": "signed", "same_data": "signed", "not_slashable": "signed", "fence": "fenced"}
         .get(record["reason"], "refused") == record["result"], "result and reason do not fit")
    dating = 3 if "target" in record else 1 if "slot" in record else 2 if "epoch" in record else 0
    numbers = [record.get("slot", record.get("epoch", 0)), record.get("source", 0), record.get("target", 0)]
    return (b"\x01" + u64(time) + bytes.fromhex(record["key"][2:]) + bytes([KINDS[record["op"]], dating])
            + b"".join(map(u64, numbers)) + bytes.fromhex(record["root"][2:])
            + bytes([OUTCOMES[record["reason"]]]) + text(record["by"]))


def root(parts, size):
    """The root over `size` leaves; takes the parts it needs from the front of `parts`."""
    need(parts, "leaves are missing")
    if parts[0][0] == size:
        return parts.pop(0)[1]
    need(parts[0][0] < size, "leaves are out of order")
    left = 1 << ((size - 1).bit_length() - 1)
    return sha(b"\x01", root(parts, left), root(parts, size - left))


def checkpoint(detail, hashes, key):
    """The batch a checkpoint signs, if that is shown; its signature and hash are checked."""
    note = base64.b64decode(detail).decode()
    body, signature = note.split("\n\n")
    name, number, head = body.split("\n")[:3]
    if key:
        key_name, _, public = key.strip().split("+", 2)
        need(name == key_name, "a checkpoint of another chain")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:])
        try:
            public.verify(base64.b64decode(signature.split()[-1])[4:], (body + "\n").encode())
        except Exception:
            raise Bad("a wrong signature")
    if int(number) in hashes:
        need(hashes[int(number)] == base64.b64decode(head), "a checkpoint signs another batch")
        return int(number)


def finish(batch, parts, records, hashes, key, signed):
    if batch is None:
        return signed
    need(len(records) == batch["shown"], "records are missing")
    if parts or batch["count"] == 0:
        found = root(parts, batch["count"]) if parts else sha()
        need(not parts and found == bytes.fromhex(batch["root"]), "records do not match their Merkle root")
    for record in records:
        if record.get("event") == "audit.checkpoint":
            signed = checkpoint(record["detail"], hashes, key) or signed
    return signed


def verify(lines, key):
    first = next(lines)
    start = json.loads(first)
    need(start["audit"] == "holdfast" and start["version"] == 1, "not an export of version 1")
    instance, seq, head = bytes.fromhex(start["instance"]), start["after"], bytes.fromhex(start["hash"])
    hashes, batch, parts, records, signed, totals = {seq: head}, None, [], [], None, [0, 0, 0]
    for raw in lines:
        need(raw.endswith(b"\n"), "the line is cut off")
        line = json.loads(raw)
        if "batch" in line or "end" in line:
            signed = finish(batch, parts, records, hashes, key, signed)
        if "end" in line:
            need((line["end"], bytes.fromhex(line["hash"])) == (seq, head), "the last line names another batch")
            need([line["batches"], line["records"], line["shown"]] == totals, "the last line counts otherwise")
            need(line["first"] == hashlib.sha256(first[:-1]).hexdigest(), "the first line was changed")
            need(next(lines, None) is None, "something follows the last line")
            return f"ok {totals[0]} {totals[1]} {signed or 0}"
        if "batch" in line:
            time, merkle = millis(line["time"]), bytes.fromhex(line["root"])
            own = sha(b"holdfast/journal/batch/v1", instance, u64(line["batch"]), head, merkle, u64(line["count"]), u64(time))
            need(line["batch"] == seq + 1 and bytes.fromhex(line["prev"]) == head, "the batch does not follow the one before")
            need(own == bytes.fromhex(line["hash"]), "the batch does not match its hash")
            seq, head, batch, parts, records = seq + 1, own, line, [], []
            hashes[seq] = head
            totals[0], totals[1] = totals[0] + 1, totals[1] + line["count"]
        elif "omitted" in line:
            parts.append((line["omitted"], bytes.fromhex(line["hash"])))
        else:
            need(line["i"] == sum(size for size, _ in parts), "the record is out of place")
            parts.append((1, sha(b"\x00", leaf(line, time))))
            records.append(line)
            totals[2] += 1
    raise Bad("the last line is missing")


def main():
    number = 0

    def lines():
        nonlocal number
        with open(sys.argv[1], "rb") as file:
            for number, line in enumerate(file, 1):
                yield line

    try:
        print(verify(lines(), open(sys.argv[2]).read() if len(sys.argv) > 2 else None))
    except (Bad, ValueError, KeyError, StopIteration, TypeError, OverflowError, AttributeError, IndexError) as error:
        sys.exit(f"line {number}: {error or type(error).__name__}")


if __name__ == "__main__":
    main()
