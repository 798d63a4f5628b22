#!/usr/bin/env bash
# Prints the bits per byte of FILE under `gzip -9` and `xz -9`: what a language model of the same text has to beat.
# Usage: compression_baseline.sh FILE      Output: two lines, "gzip -9: 3.0123 bits per byte" and the same for xz.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 FILE" >&2; exit 2; }
file=$1
size=$(wc -c <"$file")
[ "$size" -gt 0 ] || { echo "$0: $file is empty" >&2; exit 1; }
for compressor in gzip xz; do
  compressed=$("$compressor" -9 -c <"$file" | wc -c)
  awk -v name="$compressor -9" -v compressed="$compressed" -v size="$size" \
    'BEGIN { printf "%s: %.4f bits per byte\n", name, compressed * 8 / size }'
done
