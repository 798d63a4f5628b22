#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer with the `tokenizers` package: what it learns from a small text, and how it encodes hard ones.

Needs: pip install tokenizers==0.23.3. Run from the repository root.
"""
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path("tests/fixtures/tokenizer")
VOCAB_SIZE = 480
SPECIAL_TOKENS = ["<|begin_of_sentence|>", "<|end_of_sentence|>", "<|pad|>", "<|fim_begin|>", "<|fim_hole|>",
                  "<|fim_end|>"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = {
    "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
}
WORDS = """the of and to in a is that it was for on are as with his they at be this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would other
into has more her two like him see time could no make than first been its who now people my made over did down only way find use
may water long little very after words called just where most know gradient parallel pipeline expert token tokens tokenizer don't
it's they'll we've I'm HE'S naïve café Größe Привет мир こんにちは 世界 漢字 한국어 १२३ ½ 😀 12 123 1234 3.14 (see) [1] "quote" foo_bar() // --""".split()
HARD_TEXTS = [
    "", "a", " ", "\n", "Hello, world! It's they'LL 'ſ I'Ve 'x", "a  b   c\t\td\n\n\n e \r\n\r\n f ",
    "1234567 12 ١٢٣٤ ½ Ⅷ x2y", "foo_bar(baz)[1]; // comment\n\n\n", "The water, the word; the meaning.",
    "naïve Größe café Привет こんにちは 漢字 한국어", "e\u0301e\u0300\u200d\ufe0f\u0300\u0300", "😀👨‍👩‍👧‍👦🇩🇪 !!!\r\n",
    "\u00a0\u3000\u2028\u0085 x \u200b", "<|begin_of_sentence|>a<|fim_hole|>b<|pad|><|pad", "a" * 300, " " * 200 + "x",
    "the" * 100 + "\n" * 40, "\ufeffBOM \u0000\u0001\x7f", "\U0001d400\U0010ffff\U00013430 end ",
    "'s't're've'm'll'd'S'T'RE'VE'M'LL'D'r", "मन्त्रि देवनागरी ไทย العربية עברית",
]


def main():
    rng = random.Random(7)
    text = ""
    while len(text) < 12000:
        text += WORDS[min(int(rng.expovariate(0.03)), len(WORDS) - 1)] + rng.choice(["  ", " ", " ", " ", ", ", ".\n", "\n\n"])
    texts = HARD_TEXTS + ["".join(rng.choice("  \n\r\t'stremvld0123xyzAÀЖ漢१!.,-(\u0301\u3000😀") for _ in range(rng.randint(5, 40)))
                          for _ in range(30)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "corpus.txt").write_text(text, encoding="utf-8", newline="")
    ids, pieces = {}, {}
    for name, split in PATTERNS.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = split
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator([text], trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        # Each piece as its number of UTF-8 bytes.
        pieces[name] = [[len(hard[begin:end].encode()) for _, (begin, end) in split.pre_tokenize_str(hard)] for hard in texts]
        ids[name] = [tokenizer.encode(hard, add_special_tokens=False).ids for hard in texts]
    with open(FOLDER / "texts.jsonl", "w", encoding="utf-8") as out:
        for i, hard in enumerate(texts):
            line = {"text": hard} | {name: ids[name][i] for name in PATTERNS}
            line |= {f"{name}_pieces": pieces[name][i] for name in PATTERNS}
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
