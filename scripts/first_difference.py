"""Where two runs with train.trace part; what scripts/compare_layouts.sh prints. A and B are run folders.

first_difference.py runs A B       nothing and exit code 0 when losses, gradient norms and final states have the same bits;
                                   else the first difference, in a line, and exit code 1
first_difference.py tensors A B    "STEP KEY": the first tensor, in forward order, of the first step where gradients or values
                                   differ; exit code 1 and a sentence when none does
first_difference.py elements A B   the first element that differs of the tensor that both wrote down, in words
"""
import glob
import json
import os
import re
import struct
import sys


def lines(path):
    with open(path) as file:
        return [json.loads(text) for text in file]


def compare_runs(a, b):
    a, b = lines(f"{a}/metrics.jsonl"), lines(f"{b}/metrics.jsonl")
    steps_a, steps_b = ([line for line in run if "loss_hex" in line] for run in (a, b))
    for x, y in zip(steps_a, steps_b):
        for field in ("loss", "grad_norm"):
            if x[field + "_hex"] != y[field + "_hex"]:
                return f"parts at step {x['step']}: {field} {x[field + '_hex']} and {y[field + '_hex']}"
    if len(steps_a) != len(steps_b):
        return f"{len(steps_a)} and {len(steps_b)} steps"
    if a[-1]["state_hash"] != b[-1]["state_hash"]:
        return f"parts in the state after step {a[-1]['step']} alone: {a[-1]['state_hash']} and {b[-1]['state_hash']}"
    return ""


def first_tensor(a, b):
    """(step, key) or None. Within a step gradients come before the values that they change."""
    for x, y in zip(lines(f"{a}/trace.jsonl"), lines(f"{b}/trace.jsonl")):
        for kind in ("gradients", "values"):
            for key in x[kind]:
                if x[kind][key] != y[kind].get(key):
                    return x["step"], key
    return None


def read_elements(run):
    """{kind: {(row, column): (bits, dtype, rank)}}"""
    elements = {"gradients": {}, "values": {}}
    for path in sorted(glob.glob(f"{run}/trace/rank-*.jsonl")):
        rank = int(os.path.basename(path)[len("rank-"):-len(".jsonl")])
        for line in lines(path):
            for i, bits in enumerate(line["bits"]):
                elements[line["of"]][line["row"], line["column"] + i] = bits, line["dtype"], rank
    return elements


def describe(element):
    if element is None:
        return "nowhere"
    bits, dtype, rank = element
    if dtype.startswith("int"):
        return f"{dtype} 0x{bits} on rank {rank}"
    value = struct.unpack(">f", bytes.fromhex(bits.ljust(8, "0")))[0]  # bfloat16 is the upper half of a float32
    return f"{re.sub('[.]?0*p', 'p', value.hex())} on rank {rank}"


def compare_elements(a, b):
    config = open(f"{a}/config.textproto").read()
    key = config.split("elements_of: \"")[1].split("\"")[0]
    step = config.split("elements_step: ")[1].split()[0]
    a, b = read_elements(a), read_elements(b)
    for kind in ("gradients", "values"):
        places = sorted(a[kind].keys() | b[kind].keys())
        differing = [place for place in places if a[kind].get(place, ("",))[0] != b[kind].get(place, ("",))[0]]
        if differing:
            place = differing[0]
            return (f"step {step}, {kind[:-1]} of {key}: {len(differing)} of {len(places)} elements differ\n"
                    f"  first at row {place[0]}, column {place[1]}\n"
                    f"  A  {describe(a[kind].get(place))}\n"
                    f"  B  {describe(b[kind].get(place))}")
    return (f"step {step}, {key}: no difference when run again: a layout does not repeat its own bits.\n"
            "Name the same layout twice to see it.")


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("runs", "tensors", "elements"):
        sys.exit(__doc__)
    kind, a, b = sys.argv[1:]
    if kind == "runs":
        difference = compare_runs(a, b)
        print(difference)
        sys.exit(1 if difference else 0)
    if kind == "elements":
        print(compare_elements(a, b))
        return
    tensor = first_tensor(a, b)
    if tensor is None:
        print("gradients, weights and selection biases are the same in every step: what differs is reported or kept beside them")
        sys.exit(1)
    print(*tensor)


main()
