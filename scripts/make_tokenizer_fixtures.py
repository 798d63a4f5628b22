#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer with the `tokenizers` package: what it learns from small texts, and how it encodes hard ones.

gpt2.json and llama3.json are plain; shapes/ has small tokenizers that are built like the published files: their normalizer, split,
added tokens and model options. With --check FATHOM (the program) it checks instead that the tokenizer.json of `fathom train-tokenizer`,
with every split that it knows, loads in the package, has the merges that the package learns itself, and encodes as those.

Needs: pip install tokenizers==0.23.3. Run from the repository root.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path("tests/fixtures/tokenizer")
VOCAB_SIZE = 480
SPECIAL_TOKENS = ["<|begin_of_sentence|>", "<|end_of_sentence|>", "<|pad|>", "<|fim_begin|>", "<|fim_hole|>",
                  "<|fim_end|>"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
# DeepSeek's files have newlines themselves where others have \r and \n.
DEEPSEEK_V3 = ["\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
               "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
               "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
CASED_LETTERS = """b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 3f7-481
48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45
1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4
1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b
2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a
10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943"""
LETTERS = "A-Za-z" + "".join("-".join(chr(int(end, 16)) for end in part.split("-")) for part in CASED_LETTERS.split())
DEEPSEEK_V2 = ["[\r\n]", f"\\s?[{LETTERS}]+", "\\s?[!-/:-~！-／：-～‘-\u201f\u3000-。]+", r"\s+$",
               "[一-龥\u0800-一가-\ud7ff]+"]
# GPT-4o's, as an expression that has no scanner.
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert)


def chain(*steps, use_regex=False, add_prefix_space=False):
    last = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)
    return pre_tokenizers.Sequence([*steps, last]) if steps else last


PATTERNS = {"llama3": chain(split(LLAMA3)), "gpt2": chain(use_regex=True)}
SHAPES = {
    "deepseek-v2": chain(*map(split, DEEPSEEK_V2), pre_tokenizers.Digits(individual_digits=True)),
    "deepseek-v3": chain(*map(split, DEEPSEEK_V3)),
    "llama3": chain(split(LLAMA3)),
    "qwen2": chain(split(QWEN2)),
    # What no published file has together.
    "odd": chain(pre_tokenizers.Digits(individual_digits=False), split(O200K, "removed", True), use_regex=True, add_prefix_space=True),
}
SHAPE_VOCAB_SIZE = 800
WORDS = """the of and to in a is that it was for on are as with his they at be this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would other
into has more her two like him see time could no make than first been its who now people my made over did down only way find use
may water long little very after words called just where most know gradient parallel pipeline expert token tokens tokenizer don't
it's they'll we've I'm HE'S naïve café Größe Привет мир こんにちは 世界 漢字 한국어 १२३ ½ 😀 12 123 1234 3.14 (see) [1] "quote" foo_bar() // --""".split()
CHINESE = "我们 的 一个 模型 训练 数据 专家 参数 语言 学习 中国 人民 可以 没有 时间 问题 这个 世界 文字 编码 。 ， 、 ： 《 》 （ ）".split(" ")
CODE = ["for (int i = 0; i < n; ++i) {\n", "  return x[i] * y_total;\n", "}\n\n", "def main(self, args):\n", "    if not args.name:\n",
        "\tstd::vector<int> ids(256);\r\n", "#include <string>\n", "        print(f\"{x:.3f}\")\n", "// ---- end ----\n"]
HARD_TEXTS = [
    "", "a", " ", "\n", "Hello, world! It's they'LL 'ſ I'Ve 'x", "a  b   c\t\td\n\n\n e \r\n\r\n f ",
    "1234567 12 ١٢٣٤ ½ Ⅷ x2y", "foo_bar(baz)[1]; // comment\n\n\n", "The water, the word; the meaning.",
    "naïve Größe café Привет こんにちは 漢字 한국어", "e\u0301e\u0300\u200d\ufe0f\u0300\u0300", "😀👨‍👩‍👧‍👦🇩🇪 !!!\r\n",
    "\u00a0\u3000\u2028\u0085 x \u200b", "<|begin_of_sentence|>a<|fim_hole|>b<|pad|><|pad", "a" * 300, " " * 200 + "x",
    "the" * 100 + "\n" * 40, "\ufeffBOM \u0000\u0001\x7f", "\U0001d400\U0010ffff\U00013430 end ",
    "'s't're've'm'll'd'S'T'RE'VE'M'LL'D'r", "मन्त्रि देवनागरी ไทย العربية עברית",
]
HARDER_TEXTS = [
    # Scripts and characters at the ends of DeepSeek-V2's classes.
    "Ünter über ὧραι ἀρχή ὼώ Ωμέγα \u2126 \u212a\u212b \u1fbe \u0294 ƻ ǀ Ⴀა ᏣᎳᎩ ꭰ ᲀ Ა ﬁﬀ ＡｂＣ！？～ 𐐀𐐨 𞤀𞤢",
    "ελληνικά ქართული հայերեն አማርኛ বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල ລາວ བོད་ မြန်မာ ភាសាខ្មែរ ᠮᠣᠩᠭᠣᠯ ᓀᐦᐃᔭᐍᐏᐣ",
    "中文，标点。“引号”‘单’——……《书》 全角　空格 混排mixed英文123数字ABC ｱｲｳ ﾊﾝｶｸ カタカナひらがな 々〆ヶ㐀㐁 𠀀𠮷 龥龦龻 豈 ㈱ ⺀",
    "한국어 조합 \u1112\u1161\u11ab \u1100\u1161 각 ퟿ힰ", "दो १२३ ४५, ١٢٣٤٥٦٧, ๑๒๓, 𝟏𝟐𝟑𝟒, ①②③ ⅣⅧ ½¾ ²³ 一二三 〇",
    "2024-01-31 3.14159 1,000,000 0xDEADBEEF 1e-10 v1.2.3-rc4 192.168.0.1 $99.99 50% #1 ５０００",
    "a\u0300\u0301\u0302b \u0300 \u0300\u0300 x\u0323\u0307 x\u0307\u0323 q\u0307\u0323\u0307 ạ̇ \u0344 é e\u0301 Å A\u030a \u212b ﬁ ① ｶﾞ",
    "👩‍🚀👩🏽‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇫🇷🇯🇵🇺 ❤️ ❤ ☺︎ 1️⃣ #️⃣ 🫠 ™ © → ∑ √2 ≠ ∞ x² ½ € £ ¥ ₿",
    "\r\n\r\n \r \n\r line1\r\nline2\r\rline3\n\nend\r", "tab\t\ttab \t \t x\v\fy", "   \n   \n   x   \n",
    "\u00a0x\u00a0\u00a0y \u2003z\u2009\u202f\u205f\u3000w \u1680 \u180e\u200b\u2060\ufeff\u0085\u2028\u2029!", "a\u3000。b\u3000\u3000c。\u3000\u3000",
    "if (x != y) { return !x && (y||z) ? a->b : *c; } /* ok */ @Override #define X(a) a##b `cmd` ~/path/to/file.txt C:\\dir",
    "'twas 'Tis rock'n'roll O'Brien's we'd've y'all'll 's 'S 'ſ 'LL ’s “don’t”", "snake_case CamelCase kebab-case SCREAMING_CASE iPhone XMLHttpRequest",
    "https://example.com/a?b=c&d=%20#frag user@host.org <div class=\"x\">&nbsp;</div> $x^2_{i}$ \\frac{1}{2}",
    "\u0000\u0001\u001b[31m\u007f\u0080\u009f \u00ad\u061c\u200e\u202e\u2066", "\ue000\uf8ff\ufffd\ufffe\uffff\U000e0001\U000f0000\U0010fffd", "\u0378\u0380\U0001fffe\u2fe0",
    "*" * 70 + "=" * 70 + "\n" + "-" * 70, "ab" * 200, "ＡＢ" * 60, "中" * 130, "9" * 100, "\u0301" * 50, "\u200d" * 50, "!" * 40 + "\r\n" * 20 + "?",
    " " * 63 + "\t" * 10 + "\n" * 5 + " " * 7 + "end" + " " * 30,
]
ADDED = {
    # (text, special, normalized[, flags])
    "deepseek-v2": [("<｜begin▁of▁sentence｜>", True, True), ("<｜end▁of▁sentence｜>", True, True), ("<｜fim▁hole｜>", False, True),
                    ("<｜fim▁begin｜>", False, True), ("<｜fim▁end｜>", False, True), ("<|EOT|>", True, False)],
    "deepseek-v3": [(f"<｜place▁holder▁no▁{i}｜>", True, False) for i in (0, 1, 10, 11)] + [
        ("<think>", False, True), ("</think>", False, True), ("<｜fim▁hole｜>", False, True), ("<｜fim▁begin｜>", False, True),
        ("<｜fim▁end｜>", False, True), ("<｜User｜>", False, True), ("<｜Assistant｜>", False, True), ("<|EOT|>", True, True)],
    "llama3": [("<|begin_of_text|>", True, False), ("<|end_of_text|>", True, False), ("<|start_header_id|>", True, False),
               ("<|end_header_id|>", True, False), ("<|eot_id|>", True, False)],
    "qwen2": [("<|endoftext|>", True, False), ("<|im_start|>", True, False), ("<|im_end|>", True, False), ("<tool_call>", False, False),
              ("</tool_call>", False, False), ("<think>", False, False)],
    "odd": [("<a>", True, False), ("<a><b>", True, False), ("<mask>", True, False, "lstrip"), ("</s>", True, False, "rstrip"),
            ("word", False, False, "single_word"), ("Ⅷa", False, True), ("<ﬁ>", False, True), (" both ", False, True, "lstrip", "rstrip"),
            ("<ｍ>", False, True, "single_word")],
}
ODD_TEXTS = ["<a><b><a><a><b>x<a", "x  <mask>  y\u00a0\u3000<mask></s>  \n z</s></s> <mask><mask>", "word words sword word_ word-word wordword é word\u0301 word½ wordⅣ Ⓐword word\u200d",
             "VIIIa Ⅷa <fi> <ﬁ> x both y  both  both z", "<m> a<m> <ｍ>b <m>", " <mask>", "</s> ", "1word word1", "word", "<a> <b>"]


def small_corpus(rng):
    text = ""
    while len(text) < 12000:
        text += WORDS[min(int(rng.expovariate(0.03)), len(WORDS) - 1)] + rng.choice(["  ", " ", " ", " ", ", ", ".\n", "\n\n"])
    return text


def mixed_corpus():
    rng = random.Random(11)
    text = ""
    while len(text) < 16000:
        kind = rng.random()
        if kind < 0.5:
            text += WORDS[min(int(rng.expovariate(0.03)), len(WORDS) - 1)] + rng.choice(["  ", " ", " ", " ", ", ", ".\n"])
        elif kind < 0.85:
            text += CHINESE[min(int(rng.expovariate(0.1)), len(CHINESE) - 1)]
        else:
            text += rng.choice(CODE)
    return text


def random_texts(rng, alphabet, count):
    return ["".join(rng.choice(alphabet) for _ in range(rng.randint(5, 40))) for _ in range(count)]


def learn(pre_tokenizer, text, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def shaped(name, tokenizer):
    """The tokenizer.json of a learned tokenizer, built like the published file."""
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    added = list(ADDED[name])
    first = 0
    if name == "deepseek-v3":  # three special tokens are the first ids of the vocabulary itself
        own = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
        vocab = {text: i for i, text in enumerate(own)} | {text: i + len(own) for text, i in vocab.items()}
        added = [(text, True, False) for text in own] + added
    next_id = max(vocab.values()) + 1
    entries = []
    for text, special, normalized, *flags in added:
        if text not in vocab:
            first = next_id
            next_id += 1
        entries.append({"id": vocab.get(text, first), "content": text, "single_word": "single_word" in flags, "lstrip": "lstrip" in flags,
                        "rstrip": "rstrip" in flags, "normalized": normalized, "special": special})
    content["added_tokens"] = entries
    content["model"]["vocab"] = vocab
    content["normalizer"] = {"deepseek-v3": {"type": "Sequence", "normalizers": []}, "deepseek-v2": {"type": "Sequence", "normalizers": []},
                             "qwen2": {"type": "NFC"}, "odd": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFKC"}]},
                             "llama3": None}[name]
    content["model"]["ignore_merges"] = name == "llama3"
    if name.startswith("deepseek"):
        content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
        del content["model"]["ignore_merges"]
    if name == "llama3":  # a whole piece that no merges lead to
        vocab["Ġgradientparallel"] = vocab.pop(max(vocab, key=vocab.get))
        content["model"]["merges"] = [merge for merge in content["model"]["merges"] if "".join(merge) in vocab]
        content["post_processor"] = {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [
            {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [entries[0]["id"]], "tokens": ["<|begin_of_text|>"]}}}
    else:
        content["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def write_plain():
    rng = random.Random(7)
    text = small_corpus(rng)
    texts = HARD_TEXTS + random_texts(rng, "  \n\r\t'stremvld0123xyzAÀЖ漢१!.,-(\u0301\u3000😀", 30)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "corpus.txt").write_text(text, encoding="utf-8", newline="")
    ids, pieces = {}, {}
    for name, pattern in PATTERNS.items():
        tokenizer = learn(pattern, text, VOCAB_SIZE - len(SPECIAL_TOKENS))
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        # Each piece as its number of UTF-8 bytes.
        pieces[name] = [[len(hard[begin:end].encode()) for _, (begin, end) in pattern.pre_tokenize_str(hard)] for hard in texts]
        ids[name] = [tokenizer.encode(hard, add_special_tokens=False).ids for hard in texts]
    with open(FOLDER / "texts.jsonl", "w", encoding="utf-8") as out:
        for i, hard in enumerate(texts):
            line = {"text": hard} | {name: ids[name][i] for name in PATTERNS}
            line |= {f"{name}_pieces": pieces[name][i] for name in PATTERNS}
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


def shape_texts():
    names = sorted({text for added in ADDED.values() for text, *_ in added} | {"<｜▁pad▁｜>"})
    soup = "  \n\r\t'stremvld0123xyzAÀЖ漢中。१!.,-(_\u0301\u0323\u3000\u00a0😀éώ\u200dgradient"
    return (HARD_TEXTS + HARDER_TEXTS + ODD_TEXTS + [f"a{name}b {name}{name} {name[:-1]}{name}\n" for name in names] + ["".join(names)] +
            [" the gradientparallel of gradient gradientparallelism"] + random_texts(random.Random(13), soup, 60))


def write_shapes():
    folder = FOLDER / "shapes"
    folder.mkdir(parents=True, exist_ok=True)
    corpus = mixed_corpus()
    (folder / "corpus.txt").write_text(corpus, encoding="utf-8", newline="")
    texts = shape_texts()
    ids, pieces = {}, {}
    for name, pattern in SHAPES.items():
        content = shaped(name, learn(pattern, corpus, SHAPE_VOCAB_SIZE))
        (folder / f"{name}.json").write_text(content, encoding="utf-8", newline="")
        tokenizer = Tokenizer.from_str(content)
        ids[name] = [tokenizer.encode(hard, add_special_tokens=False).ids for hard in texts]
        if name != "odd":  # its pieces are not those of the text
            pieces[name] = [[len(hard[begin:end].encode()) for _, (begin, end) in pattern.pre_tokenize_str(hard)] for hard in texts]
    with open(folder / "texts.jsonl", "w", encoding="utf-8") as out:
        for i, hard in enumerate(texts):
            line = {"text": hard, "ids": {name: ids[name][i] for name in ids}, "pieces": {name: pieces[name][i] for name in pieces}}
            out.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")


def check(program):
    corpus = (FOLDER / "shapes/corpus.txt").read_bytes().decode()  # with its \r
    splits = {name: pattern for name, pattern in SHAPES.items() if name != "odd"} | {"gpt2": PATTERNS["gpt2"]}
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder, "corpus.jsonl")
        text.write_text(json.dumps({"text": corpus}) + "\n")
        for name, pattern in splits.items():
            path = pathlib.Path(folder, "tokenizer.json")
            subprocess.run([program, "train-tokenizer", text, "--split", name, "--vocab_size", str(SHAPE_VOCAB_SIZE), "--output", path],
                           check=True, capture_output=True)
            ours = Tokenizer.from_file(str(path))
            own = learn(pattern, corpus, SHAPE_VOCAB_SIZE - len(SPECIAL_TOKENS))
            own.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
            assert [tuple(merge.split(" ")) for merge in json.loads(path.read_text())["model"]["merges"]] == [
                tuple(merge) for merge in json.loads(own.to_str())["model"]["merges"]], name
            for hard in shape_texts() + SPECIAL_TOKENS + [corpus]:
                want = own.encode(hard, add_special_tokens=False).ids
                assert ours.encode(hard, add_special_tokens=False).ids == want, (name, hard)
            print(f"{name}: encodes as a tokenizer that the package learned itself")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
    else:
        write_plain()
        write_shapes()
