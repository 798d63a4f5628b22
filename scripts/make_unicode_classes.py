#!/usr/bin/env python3
"""Writes data/unicode_classes_table.cc from the regex engine of the `tokenizers` package, so that both split alike.

Needs: pip install tokenizers. Run from the repository root; then clang-format the file.
"""
from tokenizers import Regex, __version__, pre_tokenizers

# In the order of enum UnicodeClass, after kOther = 0.
CLASSES = [r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{S}", r"\s"]
BLOCK = 4096


def members(pattern):
    """All code points that `pattern` matches: those that a split which removes them takes away."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for first in range(0, 0x110000, BLOCK):
        points = {c for c in range(first, first + BLOCK) if not 0xD800 <= c < 0xE000}
        kept = {ord(c) for piece, _ in split.pre_tokenize_str("".join(map(chr, sorted(points)))) for c in piece}
        found |= points - kept
    return found


def main():
    class_of = {}
    for number, pattern in enumerate(CLASSES, start=1):
        for point in members(pattern):
            assert point not in class_of, (hex(point), number, class_of[point])
            class_of[point] = number
    runs = []
    for point in range(0x110000):
        number = class_of.get(point, 0)
        if not runs or runs[-1] % 8 != number:
            runs.append(point * 8 + number)
    with open("data/unicode_classes_table.cc", "w", encoding="utf-8") as out:
        out.write(f"// Written by scripts/make_unicode_classes.py with tokenizers {__version__}; not edited by hand.\n")
        out.write('#include "data/unicode_classes.h"\n\nnamespace fathom::data {\nnamespace {\n\n')
        out.write("constexpr std::uint32_t kRuns[] = {" + ",".join(map(hex, runs)) + "};\n\n}  // namespace\n\n")
        out.write("std::span<const std::uint32_t> unicode_class_runs() noexcept { return kRuns; }\n\n")
        out.write("}  // namespace fathom::data\n")


if __name__ == "__main__":
    main()
