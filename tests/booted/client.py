"""A validator client of Python's standard library, to be run where Holdfast's unit runs.

Usage: client.py sign KIND…              one request of each kind (randao, attestation, block) and key, at the present time
       client.py once KIND               one request for each key, asked once; prints what came of it
       client.py load RESULT STOP        asks without pause until the file STOP exists; writes what it saw to RESULT (JSON)
       client.py judge RESULT [GAP]      fails unless all was signed but within one gap of at most GAP seconds

Like a validator client it asks again, for the same, until it has the signature. Kinds and network are those of tests/booted/run.
"""

import collections
import http.client
import json
import os
import sys
import threading
import time

SIGNER = ("127.0.0.1", 9000)
GENESIS, SLOT_SECONDS, SLOTS_PER_EPOCH = 1_600_000_000, 2, 8
VERSION, ROOT = "0x04000077", "0x" + "77" * 32
# After that long without a signature something is wrong with what is asked, or with the signer.
PATIENCE = 90.0


def slot():
    return int(time.time() - GENESIS) // SLOT_SECONDS


def number(value):
    return "0x" + value.to_bytes(8, "little").hex() + "00" * 24


def request(kind):
    """A request of the present, the same whoever asks in this slot."""
    now = slot()
    epoch = now // SLOTS_PER_EPOCH
    body = {"fork_info": {"fork": {"previous_version": VERSION, "current_version": VERSION, "epoch": "0"}, "genesis_validators_root": ROOT}}
    if kind == "randao":
        body |= {"type": "RANDAO_REVEAL", "randao_reveal": {"epoch": str(epoch)}}
    elif kind == "attestation":
        checkpoint = lambda of: {"epoch": str(of), "root": number(of)}
        body |= {"type": "ATTESTATION", "attestation": {"slot": str(epoch * SLOTS_PER_EPOCH), "index": "0",
                 "beacon_block_root": number(epoch), "source": checkpoint(epoch - 1), "target": checkpoint(epoch)}}
    elif kind == "block":
        body |= {"type": "BLOCK_V2", "beacon_block": {"version": "DENEB", "block_header": {"slot": str(now),
                 "proposer_index": "7", "parent_root": number(1), "state_root": number(2), "body_root": number(now)}}}
    else:
        sys.exit(f"client: no kind of request is called {kind}")
    return body


def ask(key, body, connection=None):
    """What came of one request: ("signed", signature), ("refused", reason) or ("no answer", how)."""
    own = connection or http.client.HTTPConnection(*SIGNER, timeout=30)
    try:
        own.request("POST", f"/api/v1/eth2/sign/{key}", json.dumps(body), {"Content-Type": "application/json", "Accept": "application/json"})
        answer = own.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        own.close()
        return "no answer", type(error).__name__
    finally:
        if connection is None:
            own.close()
    if answer.status != 200:
        return "refused", f"{answer.status} {json.loads(text).get('reason')}"
    signature = json.loads(text)["signature"]
    if len(bytes.fromhex(signature.removeprefix("0x"))) != 96:
        return "refused", f"200 without a signature: {text}"
    return "signed", signature


def keys():
    connection = http.client.HTTPConnection(*SIGNER, timeout=30)
    connection.request("GET", "/api/v1/eth2/publicKeys")
    return json.loads(connection.getresponse().read())


def sign(kinds):
    for kind in kinds:
        for key in keys():
            began = time.monotonic()
            while True:
                # A block or vote whose time has passed is not asked for again: the next one is.
                outcome, what = ask(key, request(kind))
                waited = time.monotonic() - began
                if outcome == "signed":
                    break
                if waited > PATIENCE:
                    sys.exit(f"client: no {kind} signed by {key} within {waited:.0f} s: {outcome}, {what}")
                time.sleep(0.2)
            print(f"signed: {kind} by {key[:10]}… after {waited:.1f} s: {what[:18]}…")


def once(kind):
    for key in keys():
        print(kind, "by", key[:10] + "…:", *ask(key, request(kind)))


def load(result, stop):
    """Two keys by two connections each: one kept open, one made anew for each request."""
    seen, lock = [], threading.Lock()

    def one(key, kept):
        connection = http.client.HTTPConnection(*SIGNER, timeout=30) if kept else None
        turn = 0
        while not os.path.exists(stop):
            turn += 1
            body, began, tries = request("attestation" if turn % 4 == 0 else "randao"), time.time(), []
            while True:
                outcome, what = ask(key, body, connection)
                at = time.time()
                if outcome == "signed" or at - began > PATIENCE:
                    break
                tries.append((at, outcome, what))
                if what.startswith("412"):
                    # The other connection voted in a newer epoch meanwhile: this vote's time has passed.
                    body = request("attestation")
                time.sleep(0.02)
            with lock:
                seen.append({"kind": body["type"], "kept": kept, "began": began, "ended": at, "outcome": outcome, "tries": tries})

    threads = [threading.Thread(target=one, args=(key, kept)) for key in keys() for kept in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(result, "w", encoding="utf-8") as file:
        json.dump(seen, file)


def judge(result, limit):
    with open(result, encoding="utf-8") as file:
        seen = json.load(file)
    lost = [one for one in seen if one["outcome"] != "signed"]
    tries = sorted(one for request in seen for one in request["tries"])
    print(f"{len(seen)} requests, {len(seen) - len(lost)} signed")
    for (outcome, what), count in collections.Counter((outcome, what) for _, outcome, what in tries).items():
        print(f"  asked again {count} times: {outcome}, {what}")
    if lost:
        sys.exit(f"client: never signed: {lost[:3]}")
    if not any(one["kind"] == "ATTESTATION" for one in seen):
        sys.exit("client: no attestation was among the requests")
    if tries:
        gap = tries[-1][0] - tries[0][0]
        print(f"  all of it within {gap:.2f} s")
        if gap > limit:
            sys.exit(f"client: the gap is longer than {limit} s")
    elif limit:
        sys.exit("client: there was no gap: nothing was restarted while requests came")


if __name__ == "__main__":
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "sign":
        sign(rest)
    elif command == "once":
        once(*rest)
    elif command == "load":
        load(*rest)
    elif command == "judge":
        judge(rest[0], float(rest[1]) if len(rest) > 1 else 0.0)
    else:
        sys.exit(__doc__)
