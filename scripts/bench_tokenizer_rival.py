#!/usr/bin/env python3
"""Speed of encoding 10 MB of English, Chinese and code on one core: Fathom and the `tokenizers` package in turn, same tokenizer.json.

    ENV/bin/python scripts/bench_tokenizer_rival.py [TOKENIZER.json...] [--build build/cpu] [--rounds 3]

ENV: pip install tokenizers. Without a TOKENIZER.json: one of 32,768 tokens for each published split, learned from the text itself,
Qwen2's with its normalizer. The text: a third each of GCIDE (package dict-gcide), of the Chinese manual pages (manpages-zh), and of
the sources of Python's library and C's and C++'s headers, documents of some 4 KiB, shuffled. The package encodes them with
encode_batch_fast, which leaves out offsets, on one thread. Both must give the same tokens. What counts is the processor time of the best round.
"""
import argparse
import array
import gzip
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

DOCUMENT_BYTES = 4096
PART_BYTES = 10_000_000 // 3


def documents_of(text):
    """As tests/bench/tokenizer_bench.cc cuts them."""
    documents, begin = [], 0
    while begin < len(text):
        newline = text.find(b"\n", min(begin + DOCUMENT_BYTES, len(text)))
        end = len(text) if newline < 0 else newline + 1
        documents.append(text[begin:end])
        begin = end
    return documents


def valid(text):
    return text.decode("utf-8", errors="ignore").encode()


def read_files(paths):
    text = b""
    for path in sorted(paths):
        if path.is_file() and len(text) < PART_BYTES:
            content = path.read_bytes()
            text += valid(gzip.decompress(content) if path.suffix == ".gz" else content)
    return text[:PART_BYTES]


def mixed_text():
    english = valid(gzip.decompress(pathlib.Path("/usr/share/dictd/gcide.dict.dz").read_bytes())[1_000_000:][:PART_BYTES])
    chinese = read_files(pathlib.Path("/usr/share/man/zh_CN").glob("man*/*.gz"))
    code = read_files([*pathlib.Path("/usr/lib/python3").parent.glob("python3.*/*.py"), *pathlib.Path("/usr/include").glob("*.h"),
                       *pathlib.Path("/usr/include/c++").glob("*/bits/*.h")])
    documents = [document if document.endswith(b"\n") else document + b"\n"
                 for part in (english, chinese, code) for document in documents_of(valid(part))]
    random.Random(1).shuffle(documents)
    print(f"English {len(english)} bytes, Chinese {len(chinese)}, code {len(code)}")
    return b"".join(documents)


def learn(program, text, folder):
    """A tokenizer.json for each split that the program knows."""
    paths = []
    for split in ("gpt2", "llama3", "qwen2", "deepseek-v2", "deepseek-v3"):
        paths.append(str(folder / f"{split}.json"))
        subprocess.run([program, "train-tokenizer", text, "--split", split, "--vocab_size", "32768", "--output", paths[-1]],
                       check=True, capture_output=True)
        if split == "qwen2":
            content = json.loads(pathlib.Path(paths[-1]).read_text(encoding="utf-8"))
            content["normalizer"] = {"type": "NFC"}
            pathlib.Path(paths[-1]).write_text(json.dumps(content), encoding="utf-8")
    return paths


def rival(path, text):
    tokenizer = tokenizers.Tokenizer.from_file(path)
    documents = [document.decode() for document in documents_of(text)]
    start = time.process_time()
    encodings = tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    seconds = time.process_time() - start
    ids = array.array("i")
    for encoding in encodings:
        ids.extend(encoding.ids)
    return seconds, ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizers", nargs="*")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = mixed_text()
        path, ids_path = pathlib.Path(folder, "text"), pathlib.Path(folder, "ids")
        path.write_bytes(text)
        for tokenizer in arguments.tokenizers or learn(arguments.build / "fathom", path, pathlib.Path(folder)):
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                said = subprocess.run([arguments.build / "tests/bench/tokenizer_bench", tokenizer, path, ids_path], check=True, capture_output=True, text=True).stdout
                ours.append(float(re.search(r"([\d.]+) s,", said)[1]))
                seconds, ids = rival(tokenizer, text)
                theirs.append(seconds)
                if ids.tobytes() != ids_path.read_bytes():
                    sys.exit(f"{tokenizer}: the tokens differ")
            size = len(text) / 1e6
            print(f"{pathlib.Path(tokenizer).stem}: {len(ids)} tokens, the same; fathom {size / min(ours):.1f} MB/s, tokenizers {tokenizers.__version__} "
                  f"{size / min(theirs):.1f} MB/s: {min(theirs) / min(ours):.1f} times")


if __name__ == "__main__":
    main()
