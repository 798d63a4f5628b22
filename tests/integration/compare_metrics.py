"""compare_metrics.py A/metrics.jsonl B/metrics.jsonl TOLERANCE: same steps, and losses, gradient norms and evaluations that agree."""
import json
import sys


def lines(path):
    result = {}
    with open(path) as file:
        for text in file:
            line = json.loads(text)
            if "loss" in line:
                result[(line.get("event", "step"), line["step"])] = line
    return result


a, b = lines(sys.argv[1]), lines(sys.argv[2])
tolerance = float(sys.argv[3])
if a.keys() != b.keys() or not a:
    sys.exit(f"steps differ: {sorted(a.keys() ^ b.keys())} of {len(a)} and {len(b)}")
for key in sorted(a):
    for field in ("loss", "grad_norm", "balance_loss", "bits_per_byte", "tokens"):
        if field in a[key]:
            x, y = a[key][field], b[key][field]
            if abs(x - y) > tolerance * abs(x):
                sys.exit(f"{key} {field}: {x!r} and {y!r} differ by {abs(x - y) / abs(x):.1e}")
