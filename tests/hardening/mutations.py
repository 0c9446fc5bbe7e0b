"""Ways to damage a file, each driven by a random generator."""

import io
import json
import os
import pickle
import re
import struct
import zipfile

HUGE = 2**62
DEEP = 100_000
# What a JSON value is replaced by
STRANGE = [None, True, -1, 0, 3, 1e308, HUGE, "", "x" * 1000, "../../../etc/passwd", "/etc/passwd"]
STRANGE += ["\x00", "nan", [], {}, [[]] * 50, {"../x": "/dev/zero"}]


class Canary:
    """An object whose unpickling makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def flip(data, rng, canary):
    """Change 1 to 8 bytes."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if data:
            data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    return bytes(data)


def flip_start(data, rng, canary):
    """Change a byte of the first hundred, where headers are."""
    data = bytearray(data)
    if data:
        data[int(rng.integers(min(len(data), 100)))] = int(rng.choice([0, 1, 127, 128, 255]))
    return bytes(data)


def truncate(data, rng, canary):
    """Keep a part from the start."""
    return data[: int(rng.integers(len(data) + 1))]


def splice(data, rng, canary):
    """Put a part of the file elsewhere, in place of what is there or before it."""
    if not data:
        return b"\x00"
    start, to = sorted(int(rng.integers(len(data))) for _ in range(2))
    length = int(rng.integers(1, 1 + min(len(data), 4096)))
    gone = length if rng.random() < 0.5 else 0
    return data[:to] + data[start : start + length] + data[to + gone :]


def erase(data, rng, canary):
    """Write zeros or 0xFF over a block, as a lost sector does."""
    at, length = int(rng.integers(len(data) + 1)), int(rng.choice([16, 512, 4096]))
    byte = bytes([int(rng.choice([0, 255]))])
    return data[:at] + byte * len(data[at : at + length]) + data[at + length :]


def oversize(data, rng, canary):
    """Append megabytes."""
    more = int(rng.choice([1, 4096, 2**22]))
    return data + (data * (more // max(len(data), 1) + 1))[:more]


def pickled(data, rng, canary):
    """A pickle that makes a file when it is read."""
    return pickle.dumps(Canary(canary))


def nested(data, rng, canary):
    """JSON of a hundred thousand brackets."""
    return b'{"a":' + b"[" * DEEP + b"]" * int(rng.choice([0, DEEP])) + b"}"


BYTES = [flip, flip, flip, flip_start, truncate, splice, splice, erase, oversize, pickled, nested]


def strange_json(data, rng, canary):
    """Put a strange value, or another value of the same file, at a random place."""
    content = json.loads(data)
    places = list(_places(content))
    for _ in range(int(rng.integers(1, 4))):
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        kind = rng.random()
        if kind < 0.6:
            holder[key] = STRANGE[int(rng.integers(len(STRANGE)))]
        elif kind < 0.8:
            other, name = places[int(rng.integers(len(places)))]
            # A copy: a reference could make the JSON circular
            holder[key] = json.loads(json.dumps(other[name]))
        elif isinstance(holder, dict):
            holder.pop(key, None)
            places = list(_places(content))
    return json.dumps(content).encode()


def strange_header(data, rng, canary):
    """Claim other shapes, types and offsets in the header of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    header = strange_json(data[8 : 8 + length], rng, canary)
    if rng.random() < 0.2:
        tensors = json.loads(header)
        for tensor in tensors.values() if isinstance(tensors, dict) else []:
            if isinstance(tensor, dict):
                tensor["shape"] = [HUGE, 2]
        header = json.dumps(tensors).encode()
    told = int(rng.choice([len(header), len(header), len(header), HUGE, 0]))
    return struct.pack("<Q", told) + header + data[8 + length :]


def strange_zip(data, rng, canary):
    """Change a part of an archive and renew its checksums; sometimes plant a zip bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    name = sorted(parts)[int(rng.integers(len(parts)))]
    if "schema.json" in parts and rng.random() < 0.7:
        name = "schema.json"
    change = strange_json if name.endswith(".json") and rng.random() < 0.9 else _any(BYTES, rng)
    parts[name] = change(parts[name], rng, canary)
    method = zipfile.ZIP_STORED
    if rng.random() < 0.1:
        method, parts[name] = zipfile.ZIP_DEFLATED, b"\x00" * 2**24
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
    return buffer.getvalue()


def strange_gguf(data, rng, canary):
    """Put an extreme number, or a piece of another name, into the head of a GGUF file."""
    data = bytearray(data)
    # The last tensor's name, which its shape, type and offset follow
    end = data.rfind(b".weight") + 40
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.3:
            places = [m.start() for m in re.finditer(rb"[a-z_]{6,}", bytes(data[:end]))]
            source, to = (places[int(rng.integers(len(places)))] for _ in range(2))
            length = int(rng.integers(1, 9))
            data[to : to + length] = data[source : source + length]
            continue
        at = int(rng.integers(end))
        number = int(rng.choice([0, 1, 2, 7, 255, 2**16, 2**31, 2**32 - 1]))
        if rng.random() < 0.5:
            data[at : at + 8] = struct.pack("<Q", HUGE if rng.random() < 0.5 else number)
        else:
            data[at : at + 4] = struct.pack("<I", number)
    return bytes(data)


def structured(name, data):
    """The mutation that respects the file's format, or None."""
    if name.endswith(".json"):
        return strange_json
    if name.endswith(".safetensors"):
        return strange_header
    if name.endswith(".gguf"):
        return strange_gguf
    if data[:2] == b"PK":
        return strange_zip
    return None


def mutate(name, data, rng, canary):
    """Give (how it was changed, the changed content)."""
    change = structured(name, data)
    if change is None or rng.random() < 0.5:
        change = _any(BYTES, rng)
    return change.__name__, change(data, rng, canary)


def _any(choices, rng):
    return choices[int(rng.integers(len(choices)))]


def _places(content):
    """Each (container, key) of a json value."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])
