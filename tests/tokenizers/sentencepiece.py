"""sentencepiece.py: writes sentencepiece.json: three small tokenizers of SentencePiece's kind (Llama 2's Prepend and Replace; Metaspace of the
newer conversions, first and unsplit; Metaspace with split and its own decoder), texts, and the ids and decoded texts of Hugging Face tokenizers
0.23.3 for them."""
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

WORDS = "the cat sat on a mat and thought about 12 hats , then said hello world ; what is this ? it is the end of the thought ."
SPACE = "\u2581"


def trained(pre):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.pre_tokenizer = pre
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator([WORDS] * 4, trainers.BpeTrainer(vocab_size=380, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False))
    model = json.loads(t.to_str())["model"]
    model["byte_fallback"], model["fuse_unk"] = True, True
    return model


def build(name):
    model = trained(pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True))
    t = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if name == "prepend":
        t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    elif name == "first":
        t.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True)
    tail = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    t.decoder = decoders.Metaspace(SPACE, prepend_scheme="always") if name == "split" else decoders.Sequence(tail)
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<unk>", "<s>", "</s>")])
    t.add_tokens([AddedToken("<think>", normalized=False, special=False), AddedToken("[hat]", normalized=True, special=False)])
    return t


TEXTS = ["the cat", " the  cat ", "what is 12 + 30 ?", "Caf\u00e9 d\u00e9j\u00e0 vu", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\U0001F600 x", "a\nb\n\n  c\t", "</s>the<s> cat",
         "<think> the thought</think>", SPACE + "the cat", "on a [hat] mat", "[hat]", " ", "", "x" * 40 + " the " * 12]
out = []
for name in ("prepend", "first", "split"):
    t = build(name)
    ids = [t.encode(x, add_special_tokens=False).ids for x in TEXTS]
    out.append({"name": name, "tokenizer": json.loads(t.to_str()), "ids": ids, "back": [t.decode(i, skip_special_tokens=False) for i in ids]})
with open("sentencepiece.json", "w", encoding="utf-8") as f:
    json.dump({"texts": TEXTS, "cases": out}, f, ensure_ascii=False, separators=(",", ":"))
    f.write("\n")
