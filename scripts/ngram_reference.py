#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second implementation of the n-gram scorer, for texts of plain ASCII words; writes what tests/test_ngram_scorer.c
compares with.

    scripts/ngram_reference.py models/default.scorer.gguf data/lexicon_en.tsv tests/data/ngram_reference.tsv

Reads the GGUF file by itself and follows docs/scorer.md: words, pieces, hashes, weights. The texts are lower-case words
and single signs, so that no disguise has to come off. Lines: text, tab, log-odds. Python's own library only.
"""
import math
import struct
import sys

MASK = (1 << 64) - 1
TEXTS = (
    "have a nice day",
    "the weather is fine today , and we will go for a walk",
    "what an idiot",
    "you are a stupid and disgusting person",
    "thank you for the help !",
    "shut up and leave me alone , you fool",
    "the committee approved the budget for the new library",
    "i hate mondays",
    "nobody likes you , loser",
    "she is a gay woman and a muslim",
    "word",
    "word word word word",
)
SIMPLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            inner, n = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(n)]
        return self.take(SIMPLE[kind])


def read_scorer(path):
    with open(path, "rb") as f:
        r = Reader(f.read())
    assert r.data[:4] == b"GGUF"
    r.at = 8
    n_tensors, n_keys = r.take("Q"), r.take("Q")
    keys = {}
    for _ in range(n_keys):
        name = r.string()
        keys[name] = r.value(r.take("I"))
    assert n_tensors == 1 and r.string() == "weights"
    sizes = [r.take("Q") for _ in range(r.take("I"))]
    r.take("I")  # type
    offset = r.take("Q")
    start = (r.at + 31) // 32 * 32 + offset
    codes = r.data[start:start + sizes[0] * sizes[1]]
    return keys, codes


def mix(h):
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def fnv(text, h=14695981039346656037):
    for c in text:
        h = (h ^ ord(c)) * 1099511628211 & MASK
    return h


def read_lexicon(path):
    with open(path, encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if line.strip() and not line.startswith("#")]
    return {row[0]: float(row[1]) for row in rows}


def features(text, keys, lexicon):
    """The buckets of each of the two groups, as sets."""
    bits, longest = keys["soothe.ngram.bits"], keys["soothe.ngram.n_words"]
    lo, hi = keys["soothe.ngram.char_min"], keys["soothe.ngram.char_max"]
    groups = set(), set()
    hashes = []
    for word in text.split():
        hashes.append(mix(fnv(word)))
        h = hashes[-1]
        groups[0].add(h >> 64 - bits)
        for k in range(1, min(longest, len(hashes))):
            h = mix((h * 31 + hashes[-1 - k]) & MASK)
            groups[0].add(h >> 64 - bits)
        if word in lexicon and keys["soothe.ngram.lexicon"]:
            level = math.floor(2 * 1.2 * lexicon[word] + 0.5)  # -2 log(1 - p), with the lexicon's p = 1 - exp(-1.2 s)
            groups[0].update((mix(776) >> 64 - bits, mix(777 + level) >> 64 - bits))
        padded = f" {word} "
        if word.isalpha():
            for i in range(len(padded)):
                for n in range(lo, hi + 1):
                    if i + n <= len(padded):
                        groups[1].add(mix((fnv(padded[i:i + n]) + n - 1) & MASK) >> 64 - bits)
    return groups


def log_odds(text, keys, codes, lexicon):
    total = keys["soothe.ngram.bias"]
    for group, (buckets, scale) in enumerate(zip(features(text, keys, lexicon), keys["soothe.ngram.scale"])):
        weights = 0.0
        for bucket in buckets:
            code = codes[(group << keys["soothe.ngram.bits"]) + bucket]
            code = code - 256 if code > 127 else code
            weights += scale * math.copysign((code / 127) ** 2, code)
        total += weights / math.sqrt(len(buckets)) if buckets else 0
    return total


def main():
    keys, codes = read_scorer(sys.argv[1])
    lexicon = read_lexicon(sys.argv[2])
    with open(sys.argv[3], "w") as out:
        for text in TEXTS:
            out.write(f"{text}\t{log_odds(text, keys, codes, lexicon):.5f}\n")


if __name__ == "__main__":
    main()
