#!/usr/bin/env python3
"""pretokenizers.py: how the split behind each name of GGUF's tokenizer.ggml.pre cuts some texts, by Hugging Face's tokenizers (0.23.3)
with the regular expressions that the models themselves publish, into pretokenizers.json. Which names share a split is
llama.cpp's table (src/llama-vocab.cpp)."""
import json
import os

from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def words(numbers):  # Llama 3 and Qwen 2 publish this one with other runs of digits
    return (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + numbers +
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


FAMILIES = {
    "gpt-2": ([GPT2], ["phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "a.x-4.0", "mellum", "trillion", "granite-docling"]),
    "smollm": ([r"\p{N}", GPT2], ["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"]),
    "llama-bpe": ([words(r"\p{N}{1,3}")], ["llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"]),
    "qwen2": ([words(r"\p{N}")], ["deepseek-r1-qwen", "kormo", "megrez", "f2llmv2"]),
}
TEXTS = ["The cat's  12345 dogs'LL run!\n\n  x = y+1;\n", "a1b22c333d4444 ½ ² ٣٤٥", "  \t leading and trailing  ", "don't WE'RE they'Ve I'm",
         "你好，世界 2024年12月31日", "été naïve Größe ÅÄÖ", "3.14159e-10 0x1F 1,234,567", "\r\n\r\nline\r\n\tindent\n", "!!!???...;;; --- ***",
         "👩‍💻 and 🇫🇷 ok", "def f(x):\n    return x**2  # sq\n", "\\frac{1}{2} \\boxed{42}$", "é combining á", "한국어 テスト ไทย हिन्दी", " ",
         "word\n\n\n\nword   \n end"]


def main():
    out = {"texts": TEXTS, "families": []}
    for name, (regexes, aliases) in FAMILIES.items():
        cut = Sequence([Split(Regex(r), "isolated") for r in regexes])
        out["families"].append({"names": [name, *aliases], "pieces": [[p for p, _ in cut.pre_tokenize_str(t)] for t in TEXTS]})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pretokenizers.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=0)
        f.write("\n")


main()
