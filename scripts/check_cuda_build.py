#!/usr/bin/env python3
"""Reads what the compiler said about every kernel and what it made of it: the build's log and the machine code in the objects.

    check_cuda_build.py LOG OBJECT...      (LOG: output of a build with -Xptxas=-v; scripts/check_cuda_build.sh makes it)

Prints a table of kernels: registers, spilled bytes, static shared bytes, and how many tensor-core and tensor-memory instructions.
Problems are spills, stack frames, notes of ptxas that mean a silent loss of speed, and kernels of NEEDED without the instructions
that they are written for. Exits 1 if there is one.
"""
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# What kernels must contain: a pattern of the name, as the table shows it, to the instructions.
NEEDED = {
    r"grouped_matmul_sm90: .*tensor_core": ["HGMMA", "TMA_LOAD"],
    r"grouped_contributions_sm90: .*tensor_core": ["HGMMA", "TMA_LOAD"],
    r"cuda::(attend_tiles|key_gradients|query_gradients)<__nv_bfloat16": ["HMMA"],
}

# ptxas says these as mere information: wgmma that is serialized, or register limits that are ignored.
LOSSES = re.compile(r"C7508|C7510|C7511|C7517|C7519|Potential Performance Loss")

# The low 12 bits of a 16-byte instruction of sm_90, found by compiling code of known content.
OPCODES = {
    0x9F0: "HGMMA",  # wgmma, 16-bit operands
    0x9F3: "QGMMA",  # wgmma, 8-bit operands
    0x23C: "HMMA",  # mma.sync
    0x5B4: "TMA_LOAD",  # cp.async.bulk.tensor, global to shared
    0x3B5: "TMA_STORE",
    0x983: "LDL",  # local memory: spills and arrays that are indexed
    0x387: "STL",
}
EM_CUDA = 190


@dataclass
class Kernel:
    registers: int = 0
    stack: int = 0
    spilled: int = 0
    shared: int = 0


def demangled(names):
    """The names as a person writes them, without return type and parameters."""
    names = list(names)
    if not names:
        return {}
    text = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    words = [re.sub(r"\(anonymous namespace\)::|fathom::|kernels::|^void ", "", line) for line in text.splitlines()]
    return dict(zip(names, words))


def kernels_of_log(log):
    """Mangled name -> Kernel. Device functions that were not inlined have a line of their own and count too."""
    kernels = {}
    current = None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '([^']+)'|Function properties for (\S+)", line):
            current = kernels.setdefault(match[1] or match[2], Kernel())
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.stack = max(current.stack, int(match[1]))
            current.spilled = max(current.spilled, int(match[2]) + int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            current.registers = max(current.registers, int(match[1]))
            shared = re.search(r"(\d+) bytes smem", line)
            current.shared = max(current.shared, int(shared[1]) if shared else 0)
    return kernels


def cubins(data):
    """The device programs in an object file (they stand in it uncompressed) or a cubin."""
    begin = data.find(b"\x7fELF")
    while begin >= 0:
        if struct.unpack_from("<H", data, begin + 18)[0] == EM_CUDA:
            yield data[begin:]
        begin = data.find(b"\x7fELF", begin + 1)


def sections(elf):
    """(name, bytes) of each section of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names_index = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    names = headers[names_index][4]
    for name, _, _, _, offset, length in headers:
        begin = names + name
        yield elf[begin : elf.index(b"\0", begin)].decode(), elf[offset : offset + length]


def opcodes_of_object(data):
    """Mangled name of a kernel -> {instruction of OPCODES: how many}."""
    found = {}
    for elf in cubins(data):
        for name, code in sections(elf):
            if name.startswith(".text."):
                counts = found.setdefault(name[len(".text.") :], {})
                for (low,) in struct.iter_unpack("<Q8x", code):
                    if word := OPCODES.get(low & 0xFFF):
                        counts[word] = counts.get(word, 0) + 1
    return found


def problems_of_kernels(kernels, opcodes):
    """(name, what is wrong) by the log, and by the machine code where a kernel is in both."""
    for name, kernel in kernels.items():
        if kernel.spilled or kernel.stack:
            yield name, f"spills {kernel.spilled} bytes, stack frame of {kernel.stack} bytes"
    for name, counts in opcodes.items():
        if counts.get("LDL", 0) + counts.get("STL", 0) > 0:
            yield name, f"uses local memory: {counts}"
        if counts.get("HGMMA", 0) + counts.get("QGMMA", 0) > 0 and counts.get("HMMA", 0) > 0:
            yield name, f"mixes wgmma with mma.sync: {counts}"


def missing_instructions(needed, words, opcodes):
    """(pattern, what is wrong) of `needed`; words are the demangled names."""
    for pattern, instructions in needed.items():
        matching = [name for name in opcodes if re.search(pattern, words[name])]
        if not matching:
            yield pattern, "no kernel has this name; mend NEEDED in scripts/check_cuda_build.py"
        for name in matching:
            lacking = [word for word in instructions if opcodes[name].get(word, 0) == 0]
            if lacking:
                yield words[name], f"has no {', '.join(lacking)} instruction"


def print_table(kernels, opcodes, words):
    print(f"{'registers':>9} {'spilled':>7} {'stack':>6} {'shared':>7} {'wgmma':>6} {'mma':>5} {'tma':>5}  kernel")
    for name in sorted(kernels, key=words.get):
        kernel = kernels[name]
        counts = opcodes.get(name, {})
        print(
            f"{kernel.registers:9} {kernel.spilled:7} {kernel.stack:6} {kernel.shared:7}"
            f" {counts.get('HGMMA', 0) + counts.get('QGMMA', 0):6} {counts.get('HMMA', 0):5}"
            f" {counts.get('TMA_LOAD', 0) + counts.get('TMA_STORE', 0):5}  {words[name]}"
        )


def main(log_path, object_paths):
    log = Path(log_path).read_text(errors="replace")
    kernels = kernels_of_log(log)
    opcodes = {}
    words = demangled(kernels)
    for path in map(Path, object_paths):
        found = opcodes_of_object(path.read_bytes())
        opcodes.update(found)
        source = path.name.removesuffix(".cu.o")
        words.update({name: f"{source}: {word}" for name, word in demangled(found).items()})
    print_table(kernels, opcodes, words)
    problems = [f"{words[name]}: {problem}" for name, problem in problems_of_kernels(kernels, opcodes)]
    problems += [f"{name}: {problem}" for name, problem in missing_instructions(NEEDED, words, opcodes)]
    problems += [line.strip() for line in log.splitlines() if LOSSES.search(line)]
    # A log or objects that were not understood would find nothing wrong with anything.
    unread = sorted(words[name] for name in set(opcodes) - set(kernels))
    problems += [f"{name}: in an object, but the log says nothing of its registers" for name in unread]
    if not opcodes:
        problems.append("no kernel in the objects")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(f"{len(opcodes)} kernels, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
